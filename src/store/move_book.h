// The moves that are under way: reserved places by target address, and old places that wait for
// release_moved. In memory alone: after a restart a reserved place is free, and an old place is
// free once its move was journalled. Not thread-safe: the store's lock.
#pragma once

#include <map>
#include <utility>

#include "store/types.h"

namespace refault::store {

struct Reservation {
    SegmentOwner owner;
    Extent from;
    bool is_prepared = false;  // there may be bytes at the target
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
        reserved_.emplace(target(move), Reservation{owner, move.from});
    }
    void forget(const Move& move) { reserved_.erase(target(move)); }

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
    std::map<Place, std::uint64_t> retired_;
};

}  // namespace refault::store
