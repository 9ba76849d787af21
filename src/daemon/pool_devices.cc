// Devices that join the pool, come back to it, or have gone.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>

#include "daemon/pool.h"

namespace refault::daemon {

using base::Code;
using base::Error;
using base::MutexLock;
using device::DeviceSpec;
using store::DevicePtr;

namespace {

constexpr std::chrono::seconds kInHandMax{5};
constexpr std::chrono::milliseconds kLookAgain{10};

}  // namespace

// Those that were lost earlier, and those without which the pool was opened just now.
void Pool::list_absent_devices() {
    MutexLock lock(mutex_);
    for (const auto& name : store_->absent_devices()) {
        if (devices_.contains(name)) continue;
        DeviceView absent;
        absent.name = name;
        absent.is_member = false;
        absent.is_lost = true;
        absent.slot_state = slot::SlotState::Failed;
        absent.power = slot::Indicator::Off;
        pulled_[name] = std::move(absent);
        events_.publish({"device-lost", {{"device", name}}});
    }
}

// The device itself says who it is. Its old memory may be mapped by nobody: what is stored there
// from now on must not be reached through a mapping of its earlier life.
Result<std::string> Pool::rejoin(const DeviceSpec& spec, std::unique_ptr<slot::Slot> slot) {
    auto opened = device::Device::open(spec);
    if (!opened) return opened.error();
    const DevicePtr device = std::move(*opened);
    auto target = failure::proof_target(*device);
    if (!target) return target.error();
    auto report = failure::prove(*target);
    if (!report) return report.error();
    if (!report->holders.empty())
        return Error(Code::Busy, "its old memory is still held: " + report->summary() +
                                     "; end that process, or wipe the device and add it anew");
    auto rejoined = store_->rejoin_device(device);
    if (!rejoined) return rejoined.error();
    devices_[device->name()] = {rejoined->id, device,
                                std::make_shared<slot::SlotMachine>(std::move(slot))};
    pulled_.erase(device->name());
    loss_proof_->forget(device->directory(), /*is_proven=*/true);
    for (const auto& [inode, range] : rejoined->restored) registry_->mark_stale(inode, range);
    std::uint64_t restored_bytes = 0, copy_bytes = 0;
    for (const auto& [inode, range] : rejoined->restored) restored_bytes += range.length();
    for (const auto& move : rejoined->copies) copy_bytes += move.from.length;
    events_.publish({"device-returned",
                     {{"device", device->name()},
                      {"restored_bytes", restored_bytes},
                      {"bytes_to_compare", copy_bytes}}});
    resync_->take_over(std::move(rejoined->copies));
    return device->name();
}

Status Pool::check_is_none_locked(const DeviceSpec& spec) const {
    if (devices_.contains(spec.name))
        return Error(Code::Exists,
                     "there is a device " + spec.name + " already; choose another name");
    // First of all: nothing on it may be looked at.
    if (mounts_->contains(spec.path))
        return Error(Code::Invalid, spec.path +
                                        " lies on this pool's own mount; a pool cannot hold "
                                        "itself");
    std::error_code unknown;
    for (const auto& [name, device] : devices_)
        if (spec.kind == device::DeviceKind::Dir &&
            std::filesystem::equivalent(spec.path, device.device->directory(), unknown))
            return Error(Code::Exists,
                         spec.path + " is in use already: it is device " + name + " of this pool");
    return {};
}

// Its loss is known before all is done that follows from it, and whoever does that has the lock on
// its directory.
Status Pool::wait_until_let_go_locked(const DeviceSpec& spec) {
    const auto label = device::Device::peek_label(spec);
    if (!label) return {};
    const auto is_in_hand = [&] {
        mutex_.assert_held();
        return std::any_of(taken_out_.begin(), taken_out_.end(), [&](const auto& gone) {
            const auto device = gone.lock();
            return device && device->label().device == label->device;
        });
    };
    const auto deadline = std::chrono::steady_clock::now() + kInHandMax;
    while (is_in_hand()) {
        const auto now = std::chrono::steady_clock::now();
        if (now >= deadline)
            return Error(Code::Busy, "device " + label->name +
                                         " has left this pool, which is not done with that yet; "
                                         "try again when refault status shows it");
        base::CondVar nobody_notifies;
        (void)nobody_notifies.wait_until(mutex_, now + kLookAgain);
    }
    return {};
}

Result<std::string> Pool::add_device(const DeviceSpec& spec, const std::string& slot_text,
                                     bool may_wipe) {
    MutexLock lock(mutex_);
    RETURN_IF_ERROR(check_is_none_locked(spec));
    RETURN_IF_ERROR(wait_until_let_go_locked(spec));
    RETURN_IF_ERROR(check_is_none_locked(spec));
    auto slot = slot::make_slot(slot_text);
    if (!slot) return slot.error();
    if (auto label = device::Device::peek_label(spec)) {
        const bool is_ours = store_->is_absent(*label);
        if (is_ours && (store_->is_as_it_left(*label) || !may_wipe))
            return rejoin(spec, std::move(*slot));
        if (label->state == device::LabelState::Member && may_wipe)
            RETURN_IF_ERROR(device::Device::wipe(spec));
    }
    auto made = device::Device::create(spec, store_->pool_uuid());
    if (!made) return made.error();
    const DevicePtr device = std::move(*made);
    auto id = store_->add_device(device);
    if (!id) return id.error();
    devices_[spec.name] = {*id, device, std::make_shared<slot::SlotMachine>(std::move(*slot))};
    pulled_.erase(spec.name);
    loss_proof_->forget(device->directory(), /*is_proven=*/false);
    resync_->kick();
    events_.publish(
        {"device-added", {{"device", spec.name}, {"capacity_bytes", device->capacity_bytes()}}});
    return spec.name;
}

Status Pool::forget_lost(const std::string& name) {
    MutexLock lock(mutex_);
    RETURN_IF_ERROR(store_->forget_device(name));
    pulled_.erase(name);
    events_.publish({"device-forgotten", {{"device", name}}});
    return {};
}

failure::ManagedDevice Pool::take_out_locked(
    std::map<std::string, failure::ManagedDevice>::iterator at, bool is_lost) {
    auto gone = std::move(at->second);
    devices_.erase(at);
    std::erase_if(taken_out_, [](const auto& device) { return device.expired(); });
    taken_out_.push_back(gone.device);
    DeviceView last = view(gone, {});
    last.is_member = false;
    last.is_lost = is_lost;
    pulled_[last.name] = std::move(last);
    return gone;
}

// In both, `gone` is dropped outside of the lock: the device unmounts itself when its last user
// goes.
void Pool::forget(const std::string& name) {
    failure::ManagedDevice gone;
    MutexLock lock(mutex_);
    const auto at = devices_.find(name);
    if (at != devices_.end()) gone = take_out_locked(at, /*is_lost=*/false);
}

void Pool::lose(base::DeviceId id) {
    failure::ManagedDevice gone;
    MutexLock lock(mutex_);
    const auto at = std::find_if(devices_.begin(), devices_.end(),
                                 [&](const auto& entry) { return entry.second.id == id; });
    if (at == devices_.end()) return;
    base::discard(at->second.slot->failed(), "the device's own state says it too");
    gone = take_out_locked(at, /*is_lost=*/true);
}

}  // namespace refault::daemon
