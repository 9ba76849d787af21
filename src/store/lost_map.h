// The parts of one file whose last copy is lost, by file offset.
//
//   clear   [-- lost --|== cleared ==|-- lost --]   leaves both ends
//
// Invariant: whole pages, no overlaps; what is lost again keeps its first record. Not thread-safe:
// the store's lock.
#pragma once

#include <map>
#include <vector>

#include "store/types.h"

namespace refault::store {

class LostMap {
  public:
    bool empty() const noexcept { return parts_.empty(); }
    void add(const LostRange& lost);
    void clear(FileRange range);
    // Those that overlap the range, cut to it, ascending.
    std::vector<LostRange> overlapping(FileRange range) const;
    std::vector<LostRange> all() const { return overlapping(FileRange(0, UINT64_MAX)); }

  private:
    static LostRange cut_to(const LostRange& lost, FileRange range);

    std::map<std::uint64_t, LostRange> parts_;  // by begin
};

}  // namespace refault::store
