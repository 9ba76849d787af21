// The free runs of one segment, first fit. Offsets are within the segment.
//
//   free   [....]      [..]  [.........)     take: a part of one run; release: joins its neighbours
//
// Not thread-safe: the store's lock.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace refault::store {

class SegmentSpace {
  public:
    explicit SegmentSpace(std::uint64_t segment_bytes);

    std::uint64_t free_bytes() const noexcept { return free_bytes_; }
    std::uint64_t taken_bytes() const noexcept { return segment_bytes_ - free_bytes_; }
    bool is_free(std::uint64_t offset, std::uint64_t length) const;
    // Precondition: is_free.
    void take(std::uint64_t offset, std::uint64_t length);
    // Precondition: all of it is taken.
    void release(std::uint64_t offset, std::uint64_t length);

    // The first offset with `length` free bytes that equals `remainder` modulo `modulus`; modulus
    // 1: anywhere.
    std::optional<std::uint64_t> find(std::uint64_t length, std::uint64_t modulus,
                                      std::uint64_t remainder) const;
    // The first free run.
    struct Run {
        std::uint64_t offset = 0;
        std::uint64_t length = 0;
    };
    std::optional<Run> first() const;
    const std::map<std::uint64_t, std::uint64_t>& runs() const noexcept { return runs_; }

  private:
    std::uint64_t segment_bytes_;
    std::uint64_t free_bytes_;
    // No free run is this long, as far as a search anywhere has found out; saves repeated searches
    // in full segments.
    mutable std::uint64_t missing_length_ = UINT64_MAX;
    std::map<std::uint64_t, std::uint64_t> runs_;  // offset to length
};

}  // namespace refault::store
