// Planned removal of devices, from the request to the light. One thread per leaving device, named
// "pull-NAME".
//
//   Planned -> MovingMetadata -> MovingData -> Fencing -> Proving -> Safe
//                  |  cancel, refusal, timeout, error  |       \-> Unproven (amber; proved again
//                  every second) -> Safe
//                  +--> Cancelled / Failed: the device is back in service, nothing is lost
//
// Invariants: several devices may leave at once and none of them is a target; space for everything
// is reserved before anything moves; progress never goes back; Safe is said only with a proof (rule
// 8). Thread-safe. Its lock is never held while waiting for a client, a copy or the pull thread.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/event.h"
#include "base/mutex.h"
#include "base/result.h"
#include "failure/fault_points.h"
#include "failure/proof.h"
#include "session/registry.h"
#include "slot/state_machine.h"
#include "store/store.h"

namespace refault::failure {

using base::Result;
using base::Status;

enum class RemovalPhase {
    MovingMetadata,
    MovingData,
    Fencing,
    Proving,
    Unproven,  // under way
    Safe,
    Cancelled,
    Failed  // ended
};
std::string_view phase_name(RemovalPhase phase) noexcept;  // "moving-metadata", ...
bool is_ended(RemovalPhase phase) noexcept;

struct RemovalOptions {
    std::optional<std::uint64_t> rate_bytes_per_s;
    std::optional<std::chrono::milliseconds>
        timeout;  // until all data has moved; then as cancelled
    // Pages that the kernel holds for transfers do not stand against "safe": for systems that
    // always have some.
    bool accepts_pinned = false;
};

struct AffectedProcess {
    pid_t pid = 0;
    std::string command;
    std::uint64_t mapped_bytes = 0;  // of the leaving devices
};

// What a removal would do.
struct RemovalPlan {
    std::vector<std::string> devices;
    std::uint64_t bytes_to_move = 0;
    std::uint64_t extents_to_move = 0;
    std::uint64_t free_bytes_elsewhere = 0;
    bool moves_metadata = false;
    std::vector<AffectedProcess> processes;
    bool is_possible = false;
    std::string reason;  // when not possible: with figures
};

struct RemovalStatus {
    std::string device;
    RemovalPhase phase = RemovalPhase::MovingMetadata;
    std::uint64_t bytes_total = 0;
    std::uint64_t bytes_done = 0;  // moved, or gone meanwhile; never falls
    std::uint64_t bytes_moved = 0;
    std::uint64_t extents_total = 0;
    std::uint64_t extents_done = 0;
    double moving_seconds = 0;
    double proving_seconds = 0;  // from the last byte moved to the last proof
    double worst_fence_ms = 0;   // longest time one range was locked out
    std::uint64_t late_clients =
        0;               // sessions that had not mapped their new places when the data had moved
    std::string reason;  // Cancelled, Failed, Unproven: one line
    std::optional<ProofReport> proof;
    slot::SlotState slot_state = slot::SlotState::InService;
};

class FailureBook;
class Mover;

// A device of the pool together with its slot; owned by the daemon, shared with a pull under way.
struct ManagedDevice {
    base::DeviceId id;
    store::DevicePtr device;
    std::shared_ptr<slot::SlotMachine> slot;
};

class RemovalService {
  public:
    // `on_removed` is called from the pull thread once a device is safe and forgotten by the store.
    RemovalService(store::Store& store, session::Registry& registry, Mover& mover,
                   FailureBook& book, base::EventSink& events, FaultPoints& faults,
                   std::function<void(const std::string& device)> on_removed);
    // Cancels what is under way and joins the threads.
    ~RemovalService();

    // Nothing changes. Errors: NotFound; an impossible removal is a plan with a reason, not an
    // error.
    Result<RemovalPlan> plan(const std::vector<ManagedDevice>& devices);
    // All of them or none: NoSpace (with figures), Busy (already leaving).
    Status start(const std::vector<ManagedDevice>& devices, const RemovalOptions& options);
    // Stops at the next step and puts the device back in service; waits for that. Invalid when
    // nothing is under way.
    Status cancel(const std::string& device);
    // The last removal of that name, under way or ended.
    Result<RemovalStatus> status(const std::string& device) const;
    std::vector<RemovalStatus> all() const;
    // Waits until the status differs from `seen_version` or the time is over; for streaming
    // progress.
    std::uint64_t wait_for_change(std::uint64_t seen_version,
                                  std::chrono::milliseconds limit) const;

  private:
    class Removal;
    friend class Removal;

    store::Store& store_;
    session::Registry& registry_;
    Mover& mover_;
    FailureBook& book_;
    base::EventSink& events_;
    FaultPoints& faults_;
    const std::function<void(const std::string&)> on_removed_;
    mutable base::Mutex mutex_{base::LockRank::Removals};
    mutable base::CondVar changed_;
    std::uint64_t version_ GUARDED_BY(mutex_) = 0;
    std::map<std::string, std::unique_ptr<Removal>> removals_ GUARDED_BY(mutex_);
};

}  // namespace refault::failure
