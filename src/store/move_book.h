// The moves that are under way: reserved places by target address, and old places that wait for
// release_moved. In memory alone: after a restart a reserved place is free, and an old place is
// free once its move was journalled. Not thread-safe: the store's lock.
#pragma once

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "store/types.h"

namespace refault::store {

struct Reservation {
    SegmentOwner owner;
    Extent from;
    std::uint32_t replica = 0;  // that the target becomes
    bool is_prepared = false;   // there may be bytes at the target
};

class MoveBook {
  public:
    using Place = std::pair<DeviceId, std::uint64_t>;

    static Place target(const Move& move) { return {move.to_device, move.to_offset}; }
    // The move's reservation, or nullptr when the move has ended or was never made.
    Reservation* find(const Move& move) {
        const auto found = reserved_.find(target(move));
        return found != reserved_.end() && found->second.from == move.from ? &found->second
                                                                           : nullptr;
    }
    const Reservation* find(const Move& move) const {
        return const_cast<MoveBook*>(this)->find(move);
    }
    void reserve(const Move& move, const SegmentOwner& owner) {
        reserved_.emplace(target(move), Reservation{owner, move.from, move.target_replica()});
        by_inode_.emplace(move.from.inode, target(move));
    }
    void forget(const Move& move) {
        reserved_.erase(target(move));
        const auto [first, last] = by_inode_.equal_range(move.from.inode);
        const auto at = std::find_if(
            first, last, [&](const auto& entry) { return entry.second == target(move); });
        if (at != last) by_inode_.erase(at);
    }
    // What is about to become a copy of the inode's bytes, as extents at the targets.
    std::vector<Extent> targets_of(InodeNo inode, FileRange range) const {
        std::vector<Extent> extents;
        const auto [first, last] = by_inode_.equal_range(inode);
        for (auto at = first; at != last; ++at) {
            const auto& [place, reservation] = *reserved_.find(at->second);
            Extent extent = reservation.from;
            extent.device = place.first;
            extent.device_offset = place.second;
            extent.replica = reservation.replica;
            if (extent.file_range().overlaps(range)) extents.push_back(extent);
        }
        return extents;
    }

    void retire(const Extent& from) {
        retired_.emplace(Place{from.device, from.device_offset}, from.length);
    }
    // True once for each retired place.
    bool take_retired(const Extent& from) {
        const auto found = retired_.find({from.device, from.device_offset});
        if (found == retired_.end() || found->second != from.length) return false;
        retired_.erase(found);
        return true;
    }

    // Reserved and retired bytes in a segment.
    std::uint64_t bytes_in(DeviceId device, std::uint64_t segment_bytes, SegmentNo segment) const {
        const Place begin{device, segment.raw() * segment_bytes};
        const Place end{device, begin.second + segment_bytes};
        std::uint64_t bytes = 0;
        for (auto at = reserved_.lower_bound(begin); at != reserved_.lower_bound(end); ++at)
            bytes += at->second.from.length;
        for (auto at = retired_.lower_bound(begin); at != retired_.lower_bound(end); ++at)
            bytes += at->second;
        return bytes;
    }

  private:
    std::map<Place, Reservation> reserved_;
    std::multimap<InodeNo, Place> by_inode_;
    std::map<Place, std::uint64_t> retired_;
};

}  // namespace refault::store
