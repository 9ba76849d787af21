// A transaction under construction, and the space that it frees.
//
//   build under the lock -> commit_locked -> (no lock) vacate: punch `freed`, remove the files of
//   `closing`
//
// The space stays taken in the allocator's books until vacate is done with it, so that nobody gets
// bytes of others. Value types.
#pragma once

#include <algorithm>
#include <vector>

#include "store/allocator.h"
#include "store/operation.h"

namespace refault::store {

struct FreedRange {
    DeviceId device;
    DeviceRange range;
    bool needs_punch = true;
    bool is_lost = false;  // could not be punched: stays taken until the pool is opened again
};

struct Change {
    std::vector<Operation> operations;
    std::vector<FreedRange> freed;
    std::vector<SegmentKey> closing;  // journalled as free; their files are removed
    std::vector<SegmentKey> missing;  // of those, without a file when it was to be removed

    bool is_closing(SegmentKey key) const {
        return std::binary_search(closing.begin(), closing.end(), key);
    }
};

}  // namespace refault::store
