// Questions to the store, and what its parts share.
#include "store/store.h"

#include <algorithm>

#include "store/allocator.h"
#include "store/layout_table.h"
#include "store/metadata_log.h"
#include "store/move_book.h"
#include "store/state.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::MutexLock;

Store::Store()
    : layouts_(std::make_shared<LayoutTable>([this](InodeNo inode) { free_unheld(inode); })) {}

Store::~Store() = default;

const base::Uuid& Store::pool_uuid() const noexcept {
    return pool_uuid_;
}

std::string Store::pool_name() const {
    MutexLock lock(mutex_);
    return state_->pool_name();
}

std::vector<Extent> Store::extents(InodeNo inode, FileRange range) const {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr) return {};
    return node->extents.overlapping(inode, range);
}

Result<SegmentOwner> Store::segment_owner(DeviceId device, SegmentNo segment) const {
    MutexLock lock(mutex_);
    const auto* known = state_->device(device);
    if (known == nullptr || segment.raw() >= known->map.segment_count())
        return Error(Code::NotFound, "there is no such segment");
    const auto& owner = known->map.owner(segment);
    if (!owner) return Error(Code::NotFound, "the segment belongs to nobody");
    return *owner;
}

std::vector<SegmentNo> Store::segments_in_use(DeviceId device) const {
    MutexLock lock(mutex_);
    std::vector<SegmentNo> segments;
    if (!devices_.contains(device)) return segments;
    for (const auto& key : allocator_->owned(device))
        if (!allocator_->is_closing(key) && allocator_->has_file(key))
            segments.push_back(key.segment);
    return segments;
}

std::vector<Located> Store::locate(DeviceId device, DeviceRange range) const {
    std::vector<Located> found;
    MutexLock lock(mutex_);
    if (const auto* known = state_->device(device)) known->map.locate(range, found);
    return found;
}

std::vector<Located> Store::locate_by_inodes(DeviceId device, DeviceRange range) const {
    std::vector<Located> found;
    MutexLock lock(mutex_);
    const auto* known = state_->device(device);
    if (known == nullptr) return found;
    range = range.intersect(DeviceRange(0, known->map.capacity_bytes()));
    for (const auto& [number, node] : state_->inodes())
        node.extents.locate(number, device, range, found);
    const auto segment_bytes = known->map.segment_bytes();
    for (const auto& key : allocator_->owned(device)) {
        if (allocator_->owner(key)->kind != SegmentOwner::Kind::Metadata) continue;
        const auto part = DeviceRange::of_length(key.segment.raw() * segment_bytes, segment_bytes)
                              .intersect(range);
        if (!part.empty()) found.push_back({part, true, {}, {}, 0});
    }
    std::sort(found.begin(), found.end(), [](const Located& one, const Located& other) {
        return one.device_range < other.device_range;
    });
    return found;
}

Result<DevicePtr> Store::device(DeviceId id) const {
    MutexLock lock(mutex_);
    const auto found = devices_.find(id);
    if (found == devices_.end())
        return Error(Code::NotFound, "the pool has no device number " + std::to_string(id.raw()));
    return found->second;
}

Result<DeviceId> Store::find_device(const std::string& name) const {
    MutexLock lock(mutex_);
    for (const auto& [id, device] : devices_)
        if (device->name() == name) return id;
    std::string known;
    for (const auto& [id, device] : devices_) known += (known.empty() ? "" : ", ") + device->name();
    return Error(Code::NotFound, "the pool has no device " + name + "; it has: " + known);
}

std::vector<DeviceUsage> Store::usage() const {
    MutexLock lock(mutex_);
    const auto copies = log_->copies();
    std::vector<DeviceUsage> all;
    for (const auto& [id, device] : state_->devices()) {
        DeviceUsage usage;
        usage.id = id;
        usage.name = device.name;
        usage.capacity_bytes = device.map.capacity_bytes();
        usage.data_bytes = device.map.data_bytes();
        usage.metadata_bytes = device.map.metadata_segments() * device.map.segment_bytes();
        usage.free_bytes = allocator_->free_bytes(id);
        usage.extents = device.map.extent_count();
        usage.is_leaving = allocator_->is_leaving(id);
        usage.has_failed = failed_devices_.contains(id);
        usage.has_metadata = std::find(copies.begin(), copies.end(), id) != copies.end();
        all.push_back(std::move(usage));
    }
    return all;
}

Store::LogStatus Store::log_status() const {
    MutexLock lock(mutex_);
    return {log_->epoch(),  log_->log_bytes(),           log_->checkpoint_bytes(),
            log_->copies(), good_copies_locked().size(), is_metadata_lost_};
}

const std::string& Store::name_of_locked(DeviceId device) const {
    const auto* known = state_->device(device);
    CHECK(known != nullptr);
    return known->name;
}

SegmentKey Store::segment_key_locked(DeviceId device, std::uint64_t offset) const {
    return {device,
            SegmentNo(static_cast<std::uint32_t>(offset / allocator_->segment_bytes(device)))};
}

}  // namespace refault::store
