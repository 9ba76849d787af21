// Gathers the small pieces in which a request's body arrives into steps, so that a file grows in
// few changes and memory stays bounded. Stops at the first error. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"

namespace refault::daemon {

class StepWriter {
  public:
    static constexpr std::size_t kStepBytes = 2u << 20;
    using Put = std::function<base::Status(std::uint64_t, std::span<const std::uint8_t>)>;
    StepWriter(std::uint64_t offset, Put put) : at_(offset), put_(std::move(put)) {
        step_.reserve(kStepBytes);
    }

    // False when it has failed.
    bool add(const char* data, std::size_t length) {
        while (length > 0 && status_) {
            const auto part = std::min(length, kStepBytes - step_.size());
            step_.insert(step_.end(), data, data + part);
            data += part;
            length -= part;
            if (step_.size() == kStepBytes) flush();
        }
        return status_.ok();
    }
    void flush() {
        if (!status_ || step_.empty()) return;
        status_ = put_(at_, step_);
        at_ += step_.size();
        step_.clear();
    }
    const base::Status& status() const { return status_; }
    std::uint64_t offset() const { return at_; }

  private:
    std::uint64_t at_;
    const Put put_;
    std::vector<std::uint8_t> step_;
    base::Status status_;
};

}  // namespace refault::daemon
