// Which pages of a mapping are still to be placed for the first time. All memory is taken when it
// is made, so that the pager can strike pages off without allocating. Not thread-safe.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "base/check.h"

namespace refault::client {

class PageSet {
  public:
    PageSet() = default;
    // Holds [0, pages).
    explicit PageSet(std::uint64_t pages)
        : words_((pages + 63) / 64), missing_(pages), pages_(pages) {}

    bool empty() const noexcept { return missing_ == 0; }
    // Takes [begin, end) out; what is out already stays out.
    void remove(std::uint64_t begin, std::uint64_t end) {
        CHECK(begin <= end && end <= pages_);
        while (begin < end && missing_ > 0) {
            // One word at a time:  begin [--bits--) word end or `end`, whichever comes first.
            const std::uint64_t first = begin % 64;
            const std::uint64_t bits = std::min(64 - first, end - begin);
            const std::uint64_t mask = (bits == 64 ? ~0ull : (1ull << bits) - 1) << first;
            std::uint64_t& removed = words_[begin / 64];
            missing_ -= static_cast<std::uint64_t>(std::popcount(mask & ~removed));
            removed |= mask;
            begin += bits;
        }
    }

  private:
    std::vector<std::uint64_t> words_;  // a bit is set when its page is out
    std::uint64_t missing_ = 0;
    std::uint64_t pages_ = 0;
};

}  // namespace refault::client
