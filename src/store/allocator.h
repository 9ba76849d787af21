// Which bytes of which segment are taken, and by whose files: the books of the devices' space.
//
//   segment   free -> owned (own) -> [closing (close)] -> free (disown)
//
// Taken are extents, reserved targets of moves, old places of moves until they are released, and
// ranges that are being punched. The books are in memory alone: extents and owners in the journal
// rebuild them. A closing segment is empty and its file about to be removed: nothing is placed
// there. Each device keeps its last free segments for metadata. Not thread-safe: the store's lock.
#pragma once

#include <compare>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "store/segment_space.h"
#include "store/types.h"

namespace refault::store {

struct SegmentKey {
    DeviceId device;
    SegmentNo segment;
    auto operator<=>(const SegmentKey&) const = default;
};

class Allocator {
  public:
    void add_device(DeviceId id, std::uint64_t segment_bytes, std::uint32_t segment_count);
    void remove_device(DeviceId id);
    void set_leaving(DeviceId id, bool is_leaving);
    bool is_leaving(DeviceId id) const;
    // Somebody else has taken files of the device away, so it gets no new ones.
    void note_missing_files(DeviceId id);
    bool misses_files(DeviceId id) const { return at(id).misses_files; }
    // How many free segments of each device only metadata may take.
    void set_reserve(std::uint32_t segments) { reserve_segments_ = segments; }
    std::uint32_t reserve() const noexcept { return reserve_segments_; }
    std::uint64_t segment_bytes(DeviceId id) const { return at(id).segment_bytes; }

    // The segment's owner, reserved ones included.
    std::optional<SegmentOwner> owner(SegmentKey key) const;
    void own(SegmentKey key, const SegmentOwner& owner);
    // The whole segment must have been released.
    void disown(SegmentKey key);
    void close(SegmentKey key);
    void reopen(SegmentKey key);
    bool is_closing(SegmentKey key) const;
    // Nothing more is placed there.
    void set_held(SegmentKey key, bool is_held);
    // Whether the segment's file was made.
    bool has_file(SegmentKey key) const;
    void set_has_file(SegmentKey key);

    // Precondition: within one owned segment; take: free, release: taken.
    void take(DeviceId device, DeviceRange range);
    void release(DeviceId device, DeviceRange range);
    std::uint64_t taken_bytes(SegmentKey key) const;
    const SegmentSpace* space(SegmentKey key) const;
    bool is_free(DeviceId device, std::uint64_t offset, std::uint64_t length) const;

    // Owned segments with room, ascending; not on `excluded`, not on leaving devices, not closing,
    // not held.
    std::vector<SegmentKey> with_room(const SegmentOwner& owner, const DeviceSet& excluded) const;
    bool owns_any(const SegmentOwner& owner) const;
    // The device that stays with most bytes free for data, at least one segment.
    std::optional<DeviceId> roomiest(const DeviceSet& excluded = {}) const;
    // The lowest free segment of the device becomes the owner's; nothing when only the reserve is
    // left.
    std::optional<SegmentKey> own_fresh(DeviceId device, const SegmentOwner& owner);
    // The highest free segment, the reserve included.
    std::optional<SegmentKey> own_for_metadata(DeviceId device);

    // What new data may take: whole free segments beyond the reserve; 0 on a leaving device.
    std::uint64_t free_bytes(DeviceId id) const;
    std::size_t free_segments(DeviceId id) const { return at(id).free.size(); }
    // Every owned segment.
    std::vector<SegmentKey> owned(DeviceId id) const;

  private:
    struct Segment {
        SegmentOwner owner;
        SegmentSpace space;
        bool is_closing = false;
        bool is_held = false;
        bool has_file = false;
    };
    struct Device {
        std::uint64_t segment_bytes = 0;
        bool is_leaving = false;
        bool misses_files = false;
        std::set<std::uint32_t> free;
        std::map<SegmentNo, Segment> owned;
    };
    struct OwnerOrder {
        bool operator()(const SegmentOwner& a, const SegmentOwner& b) const;
    };
    struct OwnedSet {
        std::size_t count = 0;
        std::set<SegmentKey> with_room;
    };
    const Device& at(DeviceId id) const;
    Device& at(DeviceId id);
    Segment& segment(SegmentKey key);
    const Segment* find(SegmentKey key) const;
    SegmentKey key_of(DeviceId device, DeviceRange range) const;
    void note_room(SegmentKey key, const Segment& segment);

    std::uint32_t reserve_segments_ = 2;
    std::map<DeviceId, Device> devices_;
    std::map<SegmentOwner, OwnedSet, OwnerOrder> owners_;
};

}  // namespace refault::store
