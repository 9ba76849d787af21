// Half-open byte ranges [begin, end), the only kind of range in the project, in three kinds that do
// not convert into each other: of a file, of a device's address space, of a client's addresses.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>

#include "base/check.h"

namespace refault::base {

inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::uint64_t kHugePageBytes = 2ull << 20;

constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t to) {
    return value - value % to;
}
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t to) {
    return align_down(value + to - 1, to);
}
constexpr bool is_aligned(std::uint64_t value, std::uint64_t to) {
    return value % to == 0;
}

template <typename Tag>
class Range {
  public:
    constexpr Range() = default;
    // Precondition: begin <= end.
    constexpr Range(std::uint64_t begin, std::uint64_t end) : begin_(begin), end_(end) {
        CHECK(begin <= end);
    }
    // [begin, begin + length); precondition: no overflow.
    static constexpr Range of_length(std::uint64_t begin, std::uint64_t length) {
        CHECK(begin + length >= begin);
        return Range(begin, begin + length);
    }

    constexpr std::uint64_t begin() const noexcept { return begin_; }
    constexpr std::uint64_t end() const noexcept { return end_; }
    constexpr std::uint64_t length() const noexcept { return end_ - begin_; }
    constexpr bool empty() const noexcept { return begin_ == end_; }
    constexpr bool contains(std::uint64_t at) const noexcept { return begin_ <= at && at < end_; }
    constexpr bool contains(Range other) const noexcept {
        return begin_ <= other.begin_ && other.end_ <= end_;
    }
    constexpr bool overlaps(Range other) const noexcept {
        return begin_ < other.end_ && other.begin_ < end_;
    }
    // The common part; empty (and anywhere) when there is none.
    constexpr Range intersect(Range other) const noexcept {
        const auto begin = std::max(begin_, other.begin_);
        return Range(begin, std::max(begin, std::min(end_, other.end_)));
    }
    constexpr auto operator<=>(const Range&) const = default;

  private:
    std::uint64_t begin_ = 0;
    std::uint64_t end_ = 0;
};

using FileRange = Range<struct FileRangeTag>;
using DeviceRange = Range<struct DeviceRangeTag>;
using AddressRange = Range<struct AddressRangeTag>;

}  // namespace refault::base
