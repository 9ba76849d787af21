// Detaching: devices leave with what is on them, for another host. One at a time, on a thread of
// its own ("detach"):
//
//   Asking -> Proving -> Writing -> Detached      Asking: who has the files open gets SIGTERM, and
//      |         |          |                     SIGKILL after the time that was stated, if one
//      was
//      +---------+----------+--> Cancelled, Failed: the devices are back in service
//
// Files lie on the devices as a whole, or it is refused before anything happens. The light goes off
// only with a proof (rule 8). Thread-safe; its lock is never held while waiting for a process.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/event.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "failure/removal.h"

namespace refault::failure {

enum class DetachPhase { None, Asking, Proving, Writing, Detached, Cancelled, Failed };
std::string_view phase_name(DetachPhase phase) noexcept;
bool is_running(DetachPhase phase) noexcept;

struct DetachOptions {
    std::string pool_name;  // of the pool that the devices become
    std::optional<std::chrono::milliseconds> kill_after;
    std::chrono::milliseconds timeout{60'000};  // until everybody has let go
};

struct DetachPlan {
    std::uint64_t files = 0;
    std::uint64_t bytes = 0;
    std::vector<std::string> incomplete;  // files that lie only in part on the devices
    std::vector<AffectedProcess> processes;
    std::string reason;  // why it is not possible, and what to do
    bool is_possible() const { return reason.empty(); }
};

struct DetachStatus {
    DetachPhase phase = DetachPhase::None;
    std::vector<std::string> devices;
    std::string reason;
    std::vector<pid_t> asked;
    std::vector<pid_t> killed;
    std::optional<ProofReport> proof;
};

class Detach {
  public:
    Detach(store::Store& store, session::Registry& registry, base::EventSink& events,
           FaultPoints& faults, std::function<void(const std::string& device)> on_detached);
    // Cancels and joins.
    ~Detach();

    Result<DetachPlan> plan(const std::vector<ManagedDevice>& devices);
    // Invalid when a file lies only in part on the devices; Busy when one is under way.
    Status start(const std::vector<ManagedDevice>& devices, const DetachOptions& options);
    Status cancel();
    DetachStatus status() const;

  private:
    std::string obstacle(const std::vector<ManagedDevice>& devices,
                         const store::Store::ExportPlan& plan) const;
    void run(std::vector<ManagedDevice> devices, DetachOptions options);
    Status detach(const std::vector<ManagedDevice>& devices, const DetachOptions& options);
    Status ask_and_wait(const std::vector<base::InodeNo>& files, const DetachOptions& options);
    Status prove_all(const std::vector<ManagedDevice>& devices, const DetachOptions& options);
    std::vector<pid_t> users_of(const std::vector<base::InodeNo>& files) const;
    void set_phase(DetachPhase phase, const std::string& reason = {});
    Status check_stop() const;

    store::Store& store_;
    session::Registry& registry_;
    base::EventSink& events_;
    FaultPoints& faults_;
    const std::function<void(const std::string&)> on_detached_;
    mutable base::Mutex mutex_;
    DetachStatus status_ GUARDED_BY(mutex_);
    bool must_stop_ GUARDED_BY(mutex_) = false;
    base::NamedThread thread_;
};

}  // namespace refault::failure
