// Asking, killing when told to, proving, writing.
#include "failure/detach.h"

#include <signal.h>

#include <algorithm>
#include <set>
#include <thread>

namespace refault::failure {

using base::Code;
using base::Error;
using base::InodeNo;
using base::MutexLock;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr milliseconds kPollInterval{10};
constexpr milliseconds kProveInterval{500};

store::DeviceSet ids_of(const std::vector<ManagedDevice>& devices) {
    store::DeviceSet ids;
    for (const auto& device : devices) ids.insert(device.id);
    return ids;
}

}  // namespace

std::string_view phase_name(DetachPhase phase) noexcept {
    switch (phase) {
        case DetachPhase::None:
            return "none";
        case DetachPhase::Asking:
            return "asking";
        case DetachPhase::Proving:
            return "proving";
        case DetachPhase::Writing:
            return "writing";
        case DetachPhase::Detached:
            return "detached";
        case DetachPhase::Cancelled:
            return "cancelled";
        case DetachPhase::Failed:
            return "failed";
    }
    return "unknown";
}

bool is_running(DetachPhase phase) noexcept {
    return phase == DetachPhase::Asking || phase == DetachPhase::Proving ||
           phase == DetachPhase::Writing;
}

Detach::Detach(store::Store& store, session::Registry& registry, base::EventSink& events,
               FaultPoints& faults, std::function<void(const std::string&)> on_detached)
    : store_(store),
      registry_(registry),
      events_(events),
      faults_(faults),
      on_detached_(std::move(on_detached)) {}

Detach::~Detach() {
    {
        MutexLock lock(mutex_);
        must_stop_ = true;
    }
    thread_.join();
}

Result<DetachPlan> Detach::plan(const std::vector<ManagedDevice>& devices) {
    auto exported = store_.plan_export(ids_of(devices));
    if (!exported) return exported.error();
    DetachPlan plan;
    plan.files = exported->files.size();
    plan.bytes = exported->bytes;
    plan.incomplete = exported->incomplete;
    std::set<InodeNo> files(exported->files.begin(), exported->files.end());
    for (const auto& mapping : registry_.mappings())
        if (files.contains(mapping.inode))
            plan.processes.push_back({mapping.pid, mapping.command, mapping.file_range.length()});
    plan.reason = obstacle(devices, *exported);
    return plan;
}

std::string Detach::obstacle(const std::vector<ManagedDevice>& devices,
                             const store::Store::ExportPlan& plan) const {
    for (const auto& device : devices)
        if (device.device->spec().kind != device::DeviceKind::Dir)
            return "device " + device.device->name() +
                   " is ram: and ends with the daemon; only dir: devices keep their data";
    if (plan.incomplete.empty()) return {};
    const auto named = ids_of(devices);
    std::set<std::string> others;
    for (const auto file : plan.files) {
        const auto path = store_.path_of(file);
        if (std::find(plan.incomplete.begin(), plan.incomplete.end(), path) ==
            plan.incomplete.end())
            continue;
        for (const auto& extent : store_.extents(file, base::FileRange(0, UINT64_MAX)))
            if (auto other = store_.device(extent.device); other && !named.contains(extent.device))
                others.insert((*other)->name());
    }
    std::string list;
    for (const auto& name : others) list += (list.empty() ? "" : ", ") + name;
    const auto more = plan.incomplete.size() - 1;
    return plan.incomplete.front() +
           (more == 0   ? " lies"
            : more == 1 ? " and 1 more file lie"
                        : " and " + std::to_string(more) + " more files lie") +
           " only in part on the devices; " +
           (list.empty() ? "remove it, or" : "name the others, too (" + list + "), or") +
           " pull instead";
}

Status Detach::start(const std::vector<ManagedDevice>& devices, const DetachOptions& options) {
    auto planned = plan(devices);
    if (!planned) return planned.error();
    if (!planned->is_possible()) return Error(Code::Invalid, planned->reason);
    {
        MutexLock lock(mutex_);
        const auto phase = status_.phase;
        if (phase == DetachPhase::Asking || phase == DetachPhase::Proving ||
            phase == DetachPhase::Writing)
            return Error(Code::Busy, "other devices are being detached; wait, or cancel that");
        status_ = {};
        status_.phase = DetachPhase::Asking;
        for (const auto& device : devices) status_.devices.push_back(device.device->name());
        must_stop_ = false;
    }
    thread_.join();
    thread_ = base::NamedThread("detach", [this, devices, options] { run(devices, options); });
    return {};
}

Status Detach::cancel() {
    MutexLock lock(mutex_);
    if (status_.phase != DetachPhase::Asking && status_.phase != DetachPhase::Proving)
        return Error(Code::Invalid, "nothing is being detached that could be cancelled");
    must_stop_ = true;
    return {};
}

DetachStatus Detach::status() const {
    MutexLock lock(mutex_);
    return status_;
}

void Detach::set_phase(DetachPhase phase, const std::string& reason) {
    std::string devices;
    {
        MutexLock lock(mutex_);
        status_.phase = phase;
        status_.reason = reason;
        for (const auto& name : status_.devices) devices += (devices.empty() ? "" : ",") + name;
    }
    events_.publish(
        {"detach-phase",
         {{"devices", devices}, {"phase", std::string(phase_name(phase))}, {"reason", reason}}});
}

Status Detach::check_stop() const {
    MutexLock lock(mutex_);
    if (must_stop_) return Error(Code::Cancelled, "cancelled; the devices are back in service");
    return {};
}

void Detach::run(std::vector<ManagedDevice> devices, DetachOptions options) {
    auto exported = store_.plan_export(ids_of(devices));
    const auto files = exported ? exported->files : std::vector<InodeNo>{};
    for (const auto& device : devices) {
        store_.set_leaving(device.id, true);
        base::discard(device.slot->begin_removal(), "the phase says it too");
    }
    // From here on nobody opens them anew.
    store_.set_detaching(files, true);
    const auto done = detach(devices, options);
    if (done) return set_phase(DetachPhase::Detached);
    store_.set_detaching(files, false);
    for (const auto& device : devices) {
        store_.set_leaving(device.id, false);
        base::discard(device.slot->restore(), "the phase says it too");
    }
    const bool is_wanted = done.error().code() == Code::Cancelled;
    set_phase(is_wanted ? DetachPhase::Cancelled : DetachPhase::Failed, done.error().message());
}

Status Detach::detach(const std::vector<ManagedDevice>& devices, const DetachOptions& options) {
    auto exported = store_.plan_export(ids_of(devices));
    if (!exported) return exported.error();
    RETURN_IF_ERROR(faults_.pass(FaultPoint::DetachMetadata));
    for (const auto& device : devices) RETURN_IF_ERROR(store_.evacuate_metadata(device.id));
    RETURN_IF_ERROR(ask_and_wait(exported->files, options));
    set_phase(DetachPhase::Proving);
    RETURN_IF_ERROR(prove_all(devices, options));
    set_phase(DetachPhase::Writing);
    RETURN_IF_ERROR(faults_.pass(FaultPoint::DetachWrite));
    RETURN_IF_ERROR(store_.export_devices(ids_of(devices), options.pool_name));
    for (const auto& device : devices) {
        base::discard(device.slot->proved(), "an indicator that cannot be set is shown as it is");
        on_detached_(device.device->name());
    }
    return {};
}

std::vector<pid_t> Detach::users_of(const std::vector<InodeNo>& files) const {
    std::set<pid_t> pids;
    for (const auto file : files)
        for (const auto& one : registry_.spanning(file, base::FileRange(0, UINT64_MAX)))
            pids.insert(one.session->cred().pid);
    return {pids.begin(), pids.end()};
}

// A pid is that of a process whose session is open at this moment, so it is not another's yet.
Status Detach::ask_and_wait(const std::vector<InodeNo>& files, const DetachOptions& options) {
    const auto start = steady_clock::now();
    const auto asked = users_of(files);
    for (const auto pid : asked) ::kill(pid, SIGTERM);
    {
        MutexLock lock(mutex_);
        status_.asked = asked;
    }
    bool has_killed = false;
    for (;;) {
        const auto in_use = std::find_if(files.begin(), files.end(),
                                         [&](InodeNo file) { return store_.is_open(file); });
        if (in_use == files.end()) return {};
        RETURN_IF_ERROR(check_stop());
        const auto elapsed = steady_clock::now() - start;
        if (options.kill_after && elapsed > *options.kill_after && !has_killed) {
            has_killed = true;
            const auto left = users_of(files);
            for (const auto pid : left) ::kill(pid, SIGKILL);
            MutexLock lock(mutex_);
            status_.killed = left;
        }
        if (elapsed > options.timeout)
            return Error(Code::TimedOut, store_.path_of(*in_use) +
                                             " is still open; end who has it, or say --kill-after");
        std::this_thread::sleep_for(kPollInterval);
    }
}

Status Detach::prove_all(const std::vector<ManagedDevice>& devices, const DetachOptions& options) {
    const auto deadline = steady_clock::now() + options.timeout;
    for (const auto& device : devices) {
        for (;;) {
            auto target = proof_target(*device.device);
            if (!target) return target.error();
            RETURN_IF_ERROR(faults_.pass(FaultPoint::DetachProve));
            auto report = prove(*target);
            if (!report) return report.error();
            // A descriptor in flight is in nobody's table.
            const auto in_flight = device.device->count_held_files();
            const bool is_proven = report->holders.empty() && in_flight && *in_flight == 0 &&
                                   report->hidden_inodes.value_or(0) == 0;
            {
                MutexLock lock(mutex_);
                status_.proof = *report;
                status_.reason = report->summary();
            }
            // The kernel's leases speak for processes that could not be read, too.
            if (is_proven) break;
            RETURN_IF_ERROR(check_stop());
            if (steady_clock::now() > deadline)
                return Error(Code::TimedOut, "not safe: " + report->summary());
            std::this_thread::sleep_for(kProveInterval);
        }
    }
    return {};
}

}  // namespace refault::failure
