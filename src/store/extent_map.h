// One file's extents, by replica and file offset.
//
//   add   |- left -|- right -|                  joins what continues in file, device and segment
//   cut   |--------- extent ---------|
//                  |- cut -|
//         |- left -|       |- right -|           leaves both ends
//
// Invariant: extents of one replica do not overlap, and no two could be joined. Not thread-safe:
// the store's lock.
#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "store/types.h"

namespace refault::store {

class ExtentMap {
  public:
    bool empty() const noexcept { return runs_.empty(); }
    std::size_t size() const noexcept { return runs_.size(); }
    bool overlaps(std::uint32_t replica, FileRange range) const;
    // True when one extent maps all of this run to exactly these device addresses.
    bool holds(const Extent& run) const;
    // Precondition: no overlap. `segment_bytes` is that of the extent's device.
    void add(const Extent& extent, std::uint64_t segment_bytes);
    // Precondition: holds(run).
    void cut(const Extent& run);
    // Those that overlap the range, cut to it, by replica and offset.
    std::vector<Extent> overlapping(InodeNo inode, FileRange range) const;
    // Appends what lies in this range of a device, cut to it, by replica and offset. Looks at every
    // extent.
    void locate(InodeNo inode, DeviceId device, DeviceRange range,
                std::vector<Located>& into) const;
    // The last extent of replica 0 that ends at or before `offset`.
    std::optional<Extent> before(InodeNo inode, std::uint64_t offset) const;
    // The first byte at or behind `offset` that replica 0 has.
    std::optional<std::uint64_t> next(std::uint64_t offset) const;
    // Where the run of replica 0 that has this byte ends; the offset itself when none has it.
    std::uint64_t end_of(std::uint64_t offset) const;

  private:
    using Key = std::pair<std::uint32_t, std::uint64_t>;  // replica, file offset
    struct Run {
        DeviceId device;
        std::uint64_t device_offset = 0;
        std::uint64_t length = 0;
    };
    using Runs = std::map<Key, Run>;
    // The run that contains or follows `offset`.
    Runs::const_iterator find(std::uint32_t replica, std::uint64_t offset) const;

    Runs runs_;
};

}  // namespace refault::store
