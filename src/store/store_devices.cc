// Devices that join and leave the pool, and the copies of the metadata on them.
#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "store/change.h"
#include "store/fresh_label.h"
#include "store/metadata_segments.h"
#include "store/state.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::MutexLock;

namespace {

bool contains(const std::vector<DeviceId>& ids, DeviceId id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Result<DeviceId> Store::add_device(DevicePtr device) {
    if (!device) return Error(Code::Invalid, "no device to add");
    MutexLock lock(mutex_);
    for (const auto& [id, other] : state_->devices())
        if (other.name == device->name())
            return Error(Code::Exists, "the pool has a device " + device->name() +
                                           " already; choose another name");
    if (!state_->has_room_for(device->segment_count())) return too_many_segments(*device);
    const auto id = state_->next_device();
    const auto label = fresh_label(*device, pool_uuid_, id);
    if (!label) return label.error();
    RETURN_IF_ERROR(device->write_label(*label));
    Change change;
    change.operations = {op::AddDevice{id, label->device, label->name, device->segment_bytes(),
                                       device->segment_count()},
                         op::SetGeneration{id, label->generation}};
    // With no copy left there is no log to append to: the checkpoint on this device is the next.
    const bool begins_anew = is_metadata_lost_;
    const auto apply_alone = [&]() -> Status {
        mutex_.assert_held();
        for (const auto& operation : change.operations) RETURN_IF_ERROR(state_->apply(operation));
        return {};
    };
    if (auto added = begins_anew ? apply_alone() : append_and_apply_locked(change); !added) {
        base::discard(device->remove_label(),
                      "a label that no history knows becomes a tombstone at the next open");
        return added.error();
    }
    allocator_->add_device(id, device->segment_bytes(), device->segment_count());
    devices_.emplace(id, std::move(device));
    if (begins_anew)
        RETURN_IF_ERROR(checkpoint_locked(choose_copies_locked(std::nullopt), /*may_drop=*/true));
    checkpoint_if_due_locked();
    if (const auto copied = ensure_metadata_copies_locked(); !copied)
        base::log_line(base::LogLevel::Warning,
                       "the new device has no copy of the metadata: " + copied.error().message());
    return id;
}

void Store::note_missing_files(DeviceId device) {
    MutexLock lock(mutex_);
    if (devices_.contains(device)) allocator_->note_missing_files(device);
}

bool Store::misses_files(DeviceId device) const {
    MutexLock lock(mutex_);
    return devices_.contains(device) && !failed_devices_.contains(device) &&
           allocator_->misses_files(device);
}

void Store::set_leaving(DeviceId device, bool is_leaving) {
    MutexLock lock(mutex_);
    if (devices_.contains(device)) allocator_->set_leaving(device, is_leaving);
}

Status Store::evacuate_metadata(DeviceId device) {
    MutexLock lock(mutex_);
    if (!devices_.contains(device))
        return Error(Code::NotFound,
                     "the pool has no device number " + std::to_string(device.raw()));
    // A copy that failed may have segments there still.
    if (!contains(log_->copies(), device) && state_->device(device)->map.metadata_segments() == 0)
        return {};
    const auto copies = choose_copies_locked(device);
    if (copies.empty() && failed_devices_.contains(device)) is_metadata_lost_ = true;
    if (copies.empty())
        return Error(
            Code::NoSpace,
            "device " + name_of_locked(device) +
                " has the only copy of the metadata and no device stays that could take it; "
                "add a device");
    return checkpoint_locked(copies, /*may_drop=*/true);
}

Status Store::ensure_metadata_copies() {
    MutexLock lock(mutex_);
    return ensure_metadata_copies_locked();
}

Status Store::ensure_metadata_copies_locked() {
    const auto present = good_copies_locked();
    if (present.size() >= kMetadataCopies) return {};
    const auto wanted = choose_copies_locked(std::nullopt);
    if (wanted.size() <= present.size()) return {};
    return checkpoint_locked(wanted, /*may_drop=*/false);
}

Status Store::remove_device(DeviceId id) {
    MutexLock lock(mutex_);
    const auto* known = state_->device(id);
    if (known == nullptr)
        return Error(Code::NotFound, "the pool has no device number " + std::to_string(id.raw()));
    if (contains(log_->copies(), id) || known->map.metadata_segments() > 0)
        return Error(Code::Busy,
                     "device " + known->name + " still has a copy of the metadata; move it first");
    if (known->map.extent_count() > 0)
        return Error(Code::Busy, "device " + known->name + " still holds " +
                                     base::format_size(known->map.data_bytes()) +
                                     "; move it first");
    if (!allocator_->owned(id).empty())
        return Error(Code::Busy, "device " + known->name +
                                     " still has segments that moves are using; try again");
    Change change;
    const bool has_failed = failed_devices_.contains(id);
    if (has_failed)
        change.operations = {op::LoseDevice{
            id, known->uuid, known->name, known->map.segment_bytes(), known->map.segment_count()}};
    else
        change.operations = {op::RemoveDevice{id}};
    RETURN_IF_ERROR(append_and_apply_locked(change));
    allocator_->remove_device(id);
    const auto device = std::move(devices_.extract(id).mapped());
    checkpoint_if_due_locked();
    failed_devices_.erase(id);
    if (has_failed) return {};  // its label stays: it may come back
    auto label = device->label();
    label.state = device::LabelState::Removed;
    ++label.generation;
    label.metadata_epoch = 0;
    label.metadata_segments.clear();
    if (const auto written = device->write_label(label); !written)
        return written.error().within(
            "the device is out of the pool, but its label does not say so");
    return {};
}

}  // namespace refault::store
