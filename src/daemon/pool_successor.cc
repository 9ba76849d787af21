// Handing the pool to the daemon that comes after this one, and taking it over; what a daemon that
// has died leaves of its mount.
#include "base/log.h"
#include "daemon/mount_record.h"
#include "daemon/pool.h"

namespace refault::daemon {

using base::Code;
using base::Error;
using base::LogLevel;
using base::MutexLock;

Status Pool::check_may_hand_over() {
    for (const auto& removal : removals_->all())
        if (!failure::is_ended(removal.phase))
            return Error(Code::Busy, "device " + removal.device +
                                         " is being pulled; wait for it, or cancel it with: "
                                         "refault device cancel " +
                                         removal.device);
    if (failure::is_running(detach_->status().phase))
        return Error(Code::Busy, "a device is being detached; wait for it, or cancel it");
    return check_nobody_is_absent();
}

Status Pool::hold_requests(std::chrono::steady_clock::time_point deadline) {
    RETURN_IF_ERROR(check_may_hand_over());
    if (server_->hold_requests(deadline)) return {};
    server_->release_requests();
    return Error(Code::Busy,
                 "a request of a client takes its time (a resize that waits for others?); try "
                 "again");
}

Result<HandOver> Pool::hand_over() {
    HandOver handed_over;
    {
        MutexLock lock(mutex_);
        for (const auto& [name, managed] : devices_) {
            auto device = managed.device->hand_over();
            if (!device) return device.error();
            handed_over.devices.push_back(std::move(*device));
            handed_over.slots.push_back(managed.slot->slot().describe());
        }
    }
    auto listener = server_->duplicate_listener();
    if (!listener) return listener.error();
    handed_over.listener = std::move(*listener);
    handed_over.mount = mounts_->hand_over();
    return handed_over;
}

// A device that is gone since is lost, as it would have been a moment earlier.
Result<std::unique_ptr<Pool>> Pool::take_over(HandOver& handed_over, PoolOptions options,
                                              base::EventSink& events) {
    std::vector<store::DevicePtr> devices;
    std::vector<std::string> slots;
    for (std::size_t i = 0; i < handed_over.devices.size(); ++i) {
        const auto name = handed_over.devices[i].spec.name;
        auto device = device::Device::take_over(std::move(handed_over.devices[i]));
        if (!device) {
            base::log_line(LogLevel::Error,
                           "device " + name + " is lost: " + device.error().message());
            continue;
        }
        devices.push_back(std::move(*device));
        slots.push_back(handed_over.slots[i]);
    }
    if (devices.empty()) return Error(Code::NotFound, "none of the pool's devices is there");
    handed_over.slots = std::move(slots);
    options.server.inherited_listener = handed_over.listener.release();
    return open_devices(std::move(devices), options, events, /*is_degraded=*/true, &handed_over);
}

// What cannot go on is mounted anew: programs lose what they have open, and find it there again.
void Pool::resume_mount(mount::HandedOver handed_over) {
    auto options = handed_over.options;
    const auto resumed = mounts_->resume(std::move(handed_over));
    if (resumed) return events_.publish({"mount-resumed", {{"directory", options.directory}}});
    base::log_line(LogLevel::Error, "the mount at " + options.directory +
                                        " is made anew: " + resumed.error().message());
    record_mount(&options);
}

void Pool::record_mount(const mount::MountOptions* options) const {
    if (const auto saved = save_mount_record(run_dir_, store_->pool_uuid(), options); !saved)
        base::log_line(LogLevel::Warning, "a daemon after this one will not know of the mount: " +
                                              saved.error().message());
}

void Pool::mount_again() {
    const auto recorded = load_mount_record(run_dir_, store_->pool_uuid());
    if (!recorded) return base::log_line(LogLevel::Warning, recorded.error().message());
    if (!*recorded || mounts_->info()) return;
    const auto& directory = (*recorded)->directory;
    if (const auto mounted = mounts_->mount_again(**recorded); !mounted)
        base::log_line(LogLevel::Error,
                       "cannot mount at " + directory + " again: " + mounted.error().message());
}

}  // namespace refault::daemon
