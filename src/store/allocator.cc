// The books of the devices' space.
#include "store/allocator.h"

#include <tuple>

#include "base/check.h"

namespace refault::store {

bool Allocator::OwnerOrder::operator()(const SegmentOwner& a, const SegmentOwner& b) const {
    return std::tuple(a.kind, a.uid, a.inode) < std::tuple(b.kind, b.uid, b.inode);
}

const Allocator::Device& Allocator::at(DeviceId id) const {
    const auto found = devices_.find(id);
    CHECK(found != devices_.end());
    return found->second;
}

Allocator::Device& Allocator::at(DeviceId id) {
    const auto found = devices_.find(id);
    CHECK(found != devices_.end());
    return found->second;
}

const Allocator::Segment* Allocator::find(SegmentKey key) const {
    const auto device = devices_.find(key.device);
    if (device == devices_.end()) return nullptr;
    const auto found = device->second.owned.find(key.segment);
    return found == device->second.owned.end() ? nullptr : &found->second;
}

Allocator::Segment& Allocator::segment(SegmentKey key) {
    auto& owned = at(key.device).owned;
    const auto found = owned.find(key.segment);
    CHECK(found != owned.end());
    return found->second;
}

SegmentKey Allocator::key_of(DeviceId device, DeviceRange range) const {
    const auto bytes = at(device).segment_bytes;
    CHECK(!range.empty() && range.begin() / bytes == (range.end() - 1) / bytes);
    return {device, SegmentNo(static_cast<std::uint32_t>(range.begin() / bytes))};
}

void Allocator::add_device(DeviceId id, std::uint64_t segment_bytes, std::uint32_t segment_count) {
    Device device;
    device.segment_bytes = segment_bytes;
    for (std::uint32_t i = 0; i < segment_count; ++i) device.free.insert(device.free.end(), i);
    CHECK(devices_.try_emplace(id, std::move(device)).second);
}

void Allocator::remove_device(DeviceId id) {
    CHECK(at(id).owned.empty());
    devices_.erase(id);
}

void Allocator::set_leaving(DeviceId id, bool is_leaving) {
    at(id).is_leaving = is_leaving;
}

void Allocator::note_missing_files(DeviceId id) {
    at(id).is_leaving = true;
    at(id).misses_files = true;
}

bool Allocator::is_leaving(DeviceId id) const {
    return at(id).is_leaving;
}

std::optional<SegmentOwner> Allocator::owner(SegmentKey key) const {
    const auto* found = find(key);
    if (found == nullptr) return std::nullopt;
    return found->owner;
}

void Allocator::own(SegmentKey key, const SegmentOwner& owner) {
    auto& device = at(key.device);
    CHECK(device.free.erase(key.segment.raw()) == 1);
    const auto [added, is_new] =
        device.owned.try_emplace(key.segment, Segment{owner, SegmentSpace(device.segment_bytes)});
    CHECK(is_new);
    ++owners_[owner].count;
    note_room(key, added->second);
}

void Allocator::disown(SegmentKey key) {
    auto& gone = segment(key);
    CHECK(gone.space.taken_bytes() == 0);
    const auto found = owners_.find(gone.owner);
    found->second.with_room.erase(key);
    if (--found->second.count == 0) owners_.erase(found);
    at(key.device).owned.erase(key.segment);
    at(key.device).free.insert(key.segment.raw());
}

void Allocator::note_room(SegmentKey key, const Segment& segment) {
    auto& with_room = owners_[segment.owner].with_room;
    if (segment.space.free_bytes() > 0 && !segment.is_closing && !segment.is_held)
        with_room.insert(key);
    else
        with_room.erase(key);
}

void Allocator::close(SegmentKey key) {
    segment(key).is_closing = true;
    note_room(key, segment(key));
}

void Allocator::set_held(SegmentKey key, bool is_held) {
    segment(key).is_held = is_held;
    note_room(key, segment(key));
}

void Allocator::reopen(SegmentKey key) {
    segment(key).is_closing = false;
    note_room(key, segment(key));
}

bool Allocator::is_closing(SegmentKey key) const {
    const auto* found = find(key);
    return found != nullptr && found->is_closing;
}

bool Allocator::has_file(SegmentKey key) const {
    const auto* found = find(key);
    return found != nullptr && found->has_file;
}

void Allocator::set_has_file(SegmentKey key) {
    segment(key).has_file = true;
}

void Allocator::take(DeviceId device, DeviceRange range) {
    const auto key = key_of(device, range);
    auto& from = segment(key);
    from.space.take(range.begin() % at(device).segment_bytes, range.length());
    note_room(key, from);
}

void Allocator::release(DeviceId device, DeviceRange range) {
    const auto key = key_of(device, range);
    auto& to = segment(key);
    to.space.release(range.begin() % at(device).segment_bytes, range.length());
    note_room(key, to);
}

std::uint64_t Allocator::taken_bytes(SegmentKey key) const {
    const auto* found = find(key);
    return found == nullptr ? 0 : found->space.taken_bytes();
}

const SegmentSpace* Allocator::space(SegmentKey key) const {
    const auto* found = find(key);
    return found == nullptr ? nullptr : &found->space;
}

bool Allocator::is_free(DeviceId device, std::uint64_t offset, std::uint64_t length) const {
    const auto bytes = at(device).segment_bytes;
    const auto* found = find({device, SegmentNo(static_cast<std::uint32_t>(offset / bytes))});
    return found != nullptr && found->space.is_free(offset % bytes, length);
}

std::vector<SegmentKey> Allocator::with_room(const SegmentOwner& owner,
                                             const DeviceSet& excluded) const {
    std::vector<SegmentKey> keys;
    const auto found = owners_.find(owner);
    if (found == owners_.end()) return keys;
    for (const auto& key : found->second.with_room)
        if (!excluded.contains(key.device) && !at(key.device).is_leaving) keys.push_back(key);
    return keys;
}

bool Allocator::owns_any(const SegmentOwner& owner) const {
    return owners_.contains(owner);
}

std::uint64_t Allocator::free_bytes(DeviceId id) const {
    const auto& device = at(id);
    if (device.is_leaving || device.free.size() <= reserve_segments_) return 0;
    return (device.free.size() - reserve_segments_) * device.segment_bytes;
}

std::optional<DeviceId> Allocator::roomiest(const DeviceSet& excluded) const {
    std::optional<DeviceId> best;
    for (const auto& [id, device] : devices_)
        if (!excluded.contains(id) && free_bytes(id) > (best ? free_bytes(*best) : 0)) best = id;
    return best;
}

std::optional<SegmentKey> Allocator::own_fresh(DeviceId device, const SegmentOwner& owner) {
    if (free_bytes(device) == 0) return std::nullopt;
    const SegmentKey key{device, SegmentNo(*at(device).free.begin())};
    own(key, owner);
    return key;
}

std::optional<SegmentKey> Allocator::own_for_metadata(DeviceId device) {
    if (at(device).free.empty()) return std::nullopt;
    const SegmentKey key{device, SegmentNo(*at(device).free.rbegin())};
    own(key, {SegmentOwner::Kind::Metadata, 0, {}});
    return key;
}

std::vector<SegmentKey> Allocator::owned(DeviceId id) const {
    std::vector<SegmentKey> keys;
    for (const auto& [segment_no, segment] : at(id).owned) keys.push_back({id, segment_no});
    return keys;
}

}  // namespace refault::store
