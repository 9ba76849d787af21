// Who was turned away or hung up on, and why: counted for the metrics, and logged, but no client
// can fill the log or the list of events by being refused again and again. Thread-safe; a leaf
// lock.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"

namespace refault::session {

class Refusals {
  public:
    // The newest are told, at most so many at once and so many a second thereafter.
    static constexpr double kBurst = 64;
    static constexpr double kPerSecond = 4;

    // Counts it. The line for the log, with how many were left out before it; empty when this one
    // is left out. `channel` and `reason` are words of the daemon's, never a client's.
    std::string note(std::string_view channel, std::string_view reason, std::string_view text,
                     std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now());

    struct Count {
        std::string channel;
        std::string reason;
        std::uint64_t count = 0;
    };
    std::vector<Count> counts() const;

  private:
    mutable base::Mutex mutex_;
    std::map<std::pair<std::string, std::string>, std::uint64_t> counts_ GUARDED_BY(mutex_);
    double tokens_ GUARDED_BY(mutex_) = kBurst;
    std::chrono::steady_clock::time_point refilled_ GUARDED_BY(mutex_){};
    std::uint64_t left_out_ GUARDED_BY(mutex_) = 0;
};

// A word for why a session ended that way.
std::string_view refusal_reason(const base::Error& error) noexcept;

}  // namespace refault::session
