// Where the metadata log gets its segments: the allocator's highest free ones, the reserve
// included. Such a segment has the owner Metadata in the state's reverse map; that it has is not
// journalled, the device's label says so. Called by the log alone, under the store's lock.
#pragma once

#include <map>

#include "store/allocator.h"
#include "store/metadata_log.h"
#include "store/state.h"

namespace refault::store {

// How many devices have a copy, when there are that many.
inline constexpr std::size_t kMetadataCopies = 2;

class MetadataSegments final : public MetadataSpace {
  public:
    MetadataSegments(State& state, Allocator& allocator,
                     const std::map<DeviceId, DevicePtr>& devices)
        : state_(state), allocator_(allocator), devices_(devices) {}

    Result<SegmentNo> take(DeviceId device) override;
    void give_back(DeviceId device, SegmentNo segment) override;
    // Notes a segment that a label lists. False when it is taken by something else.
    bool adopt(SegmentKey key);

  private:
    void note(SegmentKey key);

    State& state_;
    Allocator& allocator_;
    const std::map<DeviceId, DevicePtr>& devices_;
};

}  // namespace refault::store
