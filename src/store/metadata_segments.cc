// Segments of the metadata log.
#include "store/metadata_segments.h"

#include "base/log.h"

namespace refault::store {

using base::Code;
using base::Error;

void MetadataSegments::note(SegmentKey key) {
    const auto bytes = allocator_.segment_bytes(key.device);
    allocator_.take(key.device, DeviceRange::of_length(key.segment.raw() * bytes, bytes));
    allocator_.set_has_file(key);
    state_.set_metadata(key.device, key.segment);
}

Result<SegmentNo> MetadataSegments::take(DeviceId device) {
    const auto found = devices_.find(device);
    if (found == devices_.end())
        return Error(Code::NotFound, "no device " + std::to_string(device.raw()));
    const auto key = allocator_.own_for_metadata(device);
    if (!key)
        return Error(Code::NoSpace,
                     "device " + found->second->name() +
                         " has no free segment left for metadata; add a device or remove files");
    if (const auto made =
            found->second->create_fresh_segment(key->segment, device::DurableWrite::LogSegmentMake);
        !made) {
        allocator_.disown(*key);
        return made.error();
    }
    note(*key);
    return key->segment;
}

void MetadataSegments::give_back(DeviceId device, SegmentNo segment) {
    const SegmentKey key{device, segment};
    const auto owner = allocator_.owner(key);
    if (!owner || owner->kind != SegmentOwner::Kind::Metadata) return;
    const auto found = devices_.find(device);
    CHECK(found != devices_.end());
    // Once the segment is given back, nothing else tells that the device is being taken away.
    if (!found->second->has_segment(segment)) allocator_.note_missing_files(device);
    // A file that stays is removed when the segment is used again.
    if (const auto released =
            found->second->release_segment(segment, device::DurableWrite::LogSegmentRemove);
        !released)
        base::log_line(base::LogLevel::Warning, "old metadata stays on device " +
                                                    found->second->name() + ": " +
                                                    released.error().message());
    state_.clear_metadata(device, segment);
    const auto bytes = allocator_.segment_bytes(device);
    allocator_.release(device, DeviceRange::of_length(segment.raw() * bytes, bytes));
    allocator_.disown(key);
}

bool MetadataSegments::adopt(SegmentKey key) {
    const auto* device = state_.device(key.device);
    if (device == nullptr || key.segment.raw() >= device->map.segment_count() ||
        allocator_.owner(key))
        return false;
    allocator_.own(key, {SegmentOwner::Kind::Metadata, 0, {}});
    note(key);
    return true;
}

}  // namespace refault::store
