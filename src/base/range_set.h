// A set of bytes of a file as disjoint half-open ranges, neighbours merged. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/range.h"

namespace refault::base {

class RangeSet {
  public:
    void add(FileRange range);
    void subtract(FileRange range);
    bool overlaps(FileRange range) const;
    bool empty() const noexcept { return ranges_.empty(); }
    std::uint64_t length_bytes() const noexcept;
    // The parts that lie in `within`, ascending.
    std::vector<FileRange> parts(FileRange within) const;
    std::vector<FileRange> parts() const;
    // The parts of `within` that are not in the set, ascending.
    std::vector<FileRange> gaps(FileRange within) const;

  private:
    std::map<std::uint64_t, std::uint64_t> ranges_;  // begin -> end
};

}  // namespace refault::base
