// One pool with everything that runs it: the composition of the layers, and what an operator can
// ask of it. Thread-safe. mutex_ guards the table of devices alone and is taken before every lock
// below; it is not held while data moves. A pull thread drops its device from the table when it is
// safe.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/event.h"
#include "base/mutex.h"
#include "daemon/hand_over.h"
#include "failure/absent_clients.h"
#include "failure/detach.h"
#include "failure/device_watch.h"
#include "failure/failure_book.h"
#include "failure/failure_service.h"
#include "failure/held_segments.h"
#include "failure/mover.h"
#include "failure/recovery.h"
#include "failure/removal.h"
#include "failure/resync.h"
#include "failure/scrub.h"
#include "failure/store_tracker.h"
#include "mount/mount_service.h"
#include "session/file_service.h"
#include "session/registry.h"
#include "session/server.h"
#include "session/write_barrier.h"
#include "slot/state_machine.h"
#include "store/store.h"

namespace refault::daemon {

using base::Error;
using base::Result;
using base::Status;

struct DeviceView {
    base::DeviceId id;
    std::string name;
    std::string kind;  // "ram:64M", "dir:/path"
    std::string directory;
    bool is_private_mount = false;
    bool takes_userfaultfd = false;
    bool is_member = true;  // false: pulled or lost; only the slot's state is left
    bool is_lost = false;   // left without being asked
    std::uint64_t segment_bytes = 0;
    std::uint64_t generation = 0;
    store::DeviceUsage usage;
    std::string slot;
    slot::SlotState slot_state = slot::SlotState::InService;
    slot::Indicator power = slot::Indicator::On;
    slot::Indicator attention = slot::Indicator::Off;
};

struct PoolOptions {
    session::ServerOptions server;
    // Where a word of the mount is left for a daemon after this one (mount_record.h); empty:
    // nowhere.
    std::string run_dir;
};

class Pool {
  public:
    static Result<std::unique_ptr<Pool>> create(const std::string& name,
                                                const std::vector<device::DeviceSpec>& specs,
                                                const PoolOptions& options,
                                                base::EventSink& events);
    static Result<std::unique_ptr<Pool>> open(const std::vector<device::DeviceSpec>& specs,
                                              const PoolOptions& options, base::EventSink& events,
                                              bool is_degraded = false);
    // The pool of a daemon that was replaced by this one.
    static Result<std::unique_ptr<Pool>> take_over(HandOver& handed_over, PoolOptions options,
                                                   base::EventSink& events);
    // Cancels removals, ends sessions (clients keep what they have mapped), closes the devices.
    ~Pool();

    // For a daemon that is about to be replaced. Busy while data moves, or while a request is under
    // way at the deadline; else no request is begun any more until release_requests().
    Status check_may_hand_over();
    Status hold_requests(std::chrono::steady_clock::time_point deadline);
    void release_requests() { server_->release_requests(); }
    // After that. The process ends without anything being closed: the store is left as a crash
    // would leave it, and clients come back by themselves.
    Result<HandOver> hand_over();

    store::Store& store() { return *store_; }
    const store::Store& store() const { return *store_; }
    session::Registry& registry() { return *registry_; }
    session::FileService& files() { return *files_; }
    failure::RemovalService& removals() { return *removals_; }
    mount::MountService& mounts() { return *mounts_; }

    // `slot`: see slot::make_slot. A device of this pool that was lost comes back; one that another
    // pool thinks it has is refused, or wiped when the caller says so.
    // The name under which it has joined.
    Result<std::string> add_device(const device::DeviceSpec& spec, const std::string& slot,
                                   bool may_wipe = false);
    // One that was lost is not waited for any more, and not listed. What it had alone stays lost.
    Status forget_lost(const std::string& name);
    std::vector<DeviceView> devices() const;
    Result<DeviceView> device(const std::string& name) const;
    // Of a member. One that was pulled or lost: NotFound, with how it comes back.
    Result<base::DeviceId> find_device(const std::string& name) const;
    // Also of one that has left, as far as it is known; else "device NUMBER".
    std::string name_of(base::DeviceId id) const;
    Result<failure::RemovalPlan> plan_pull(const std::vector<std::string>& names);
    Status pull(const std::vector<std::string>& names, const failure::RemovalOptions& options);
    // The one entry point for failures of every kind; see failure_service.h. A planned removal is a
    // pull with the usual options. Waits until the range is recovered or lost; the number of its
    // record.
    Result<std::uint64_t> notify_failure(const std::string& name, base::DeviceRange range,
                                         failure::FailureKind kind);
    failure::FaultPoints& fault_points() { return faults_; }
    failure::FailureBook& failures() { return *book_; }
    std::uint64_t failures_under_way() const { return failures_->under_way(); }
    failure::Resync& resync() { return *resync_; }
    failure::Scrub& scrub() { return *scrub_; }
    failure::Detach& detaching() { return *detach_; }
    Result<failure::DetachPlan> plan_detach(const std::vector<std::string>& names);
    Status detach(const std::vector<std::string>& names, failure::DetachOptions options);
    std::vector<failure::RetiredRange> retired() const { return recovery_->retired(); }
    // True when one of the range's pages is retired with its next failure.
    bool is_worn_out(base::DeviceId device, base::DeviceRange range) const {
        return recovery_->is_worn_out(device, range);
    }
    // Busy while a program of an earlier daemon has not come back: see failure/absent_clients.h.
    Status check_nobody_is_absent() { return absent_->check(); }
    // Reads the kernel's tables now; changes nothing.
    Result<failure::ProofReport> prove(const std::string& name);

  private:
    explicit Pool(base::EventSink& events) : events_(events) {}
    // Who has memory of devices mapped that are about to be opened.
    struct Predecessors {
        std::vector<failure::SegmentFiles> segments;
        std::set<pid_t> pids;
    };
    static Predecessors find_predecessors(const std::vector<store::DevicePtr>& devices);
    // `handed_over`: by the daemon before, or null.
    Status assemble(std::vector<store::DevicePtr> devices, const PoolOptions& options,
                    Predecessors predecessors, HandOver* handed_over = nullptr);
    static Result<std::unique_ptr<Pool>> open_devices(std::vector<store::DevicePtr> devices,
                                                      const PoolOptions& options,
                                                      base::EventSink& events, bool is_degraded,
                                                      HandOver* handed_over);
    void resume_mount(mount::HandedOver handed_over);
    void record_mount(const mount::MountOptions* options) const;
    // In the place of the mount of a daemon that has died.
    void mount_again();
    // What may only be done when nobody maps memory that we do not know of.
    void begin_to_repair();
    Result<std::vector<failure::ManagedDevice>> find_all(
        const std::vector<std::string>& names) const;
    Error no_device(const std::string& name) const REQUIRES(mutex_);
    // NoSpace when none does: the pool's metadata would have nowhere to go, however empty the
    // devices are.
    Status check_some_stay(const std::vector<failure::ManagedDevice>& leaving) const;
    void list_absent_devices();
    failure::ManagedDevice take_out_locked(
        std::map<std::string, failure::ManagedDevice>::iterator at, bool is_lost) REQUIRES(mutex_);
    // Waits a little for whoever has a device still in hand that has left; Busy when that is not
    // enough. Drops mutex_ meanwhile.
    Status wait_until_let_go_locked(const device::DeviceSpec& spec) REQUIRES(mutex_);
    Status check_is_none_locked(const device::DeviceSpec& spec) const REQUIRES(mutex_);
    void forget(const std::string& name);
    Result<std::string> rejoin(const device::DeviceSpec& spec, std::unique_ptr<slot::Slot> slot)
        REQUIRES(mutex_);
    // A device has left without being asked.
    void lose(base::DeviceId id);
    DeviceView view(const failure::ManagedDevice& device,
                    const std::vector<store::DeviceUsage>& usage) const;

    base::EventSink& events_;
    std::string run_dir_;
    failure::FaultPoints faults_;
    // In the order in which they are made; ended the other way round.
    std::unique_ptr<store::Store> store_;
    std::unique_ptr<session::Registry> registry_;
    std::unique_ptr<session::WriteBarrier> barrier_;
    std::unique_ptr<failure::Mover> mover_;
    std::unique_ptr<failure::FailureBook> book_;
    std::unique_ptr<failure::LossProof> loss_proof_;
    std::unique_ptr<failure::Recovery> recovery_;
    std::unique_ptr<failure::Resync> resync_;
    std::unique_ptr<failure::Scrub> scrub_;
    std::unique_ptr<failure::FailureService> failures_;
    std::unique_ptr<failure::DeviceWatch> watch_;
    std::unique_ptr<failure::StoreTracker> tracker_;
    std::unique_ptr<failure::Detach> detach_;
    std::unique_ptr<session::FileService> files_;
    std::unique_ptr<mount::MountService> mounts_;
    std::unique_ptr<session::Server> server_;
    std::unique_ptr<failure::RemovalService> removals_;
    std::unique_ptr<failure::HeldSegments> held_;
    std::unique_ptr<failure::AbsentClients> absent_;
    mutable base::Mutex mutex_{base::LockRank::Pool};
    std::map<std::string, failure::ManagedDevice> devices_ GUARDED_BY(mutex_);
    std::map<std::string, DeviceView> pulled_ GUARDED_BY(mutex_);
    std::vector<std::weak_ptr<device::Device>> taken_out_
        GUARDED_BY(mutex_);  // in hand perhaps still
};

}  // namespace refault::daemon
