// Admission of removals, their cancellation and their views.
#include "failure/removal.h"

#include <algorithm>

#include "base/units.h"
#include "failure/removal_run.h"

namespace refault::failure {

using base::Code;
using base::Error;
using base::MutexLock;
using std::chrono::steady_clock;

namespace {

constexpr std::uint64_t kPieceBytesMax = 8ull << 20;

// Marks devices as leaving for as long as it lives, unless kept.
class LeavingMark {
  public:
    LeavingMark(store::Store& store, const std::vector<ManagedDevice>& devices)
        : store_(store), devices_(devices) {
        for (const auto& device : devices_) store_.set_leaving(device.id, true);
    }
    ~LeavingMark() {
        if (!is_kept_)
            for (const auto& device : devices_) store_.set_leaving(device.id, false);
    }
    LeavingMark(const LeavingMark&) = delete;
    LeavingMark& operator=(const LeavingMark&) = delete;
    void keep() { is_kept_ = true; }

  private:
    store::Store& store_;
    const std::vector<ManagedDevice>& devices_;
    bool is_kept_ = false;
};

// Places for everything on all of the devices, or none.
Result<std::vector<std::vector<store::Move>>> reserve_all(
    store::Store& store, const std::vector<ManagedDevice>& devices) {
    std::vector<std::vector<store::Move>> all;
    for (const auto& device : devices) {
        auto moves = store.reserve_evacuation(device.id, kPieceBytesMax);
        if (!moves) {
            for (const auto& earlier : all) store.abort_moves(earlier);
            return moves.error();
        }
        all.push_back(std::move(*moves));
    }
    return all;
}

}  // namespace

std::string_view phase_name(RemovalPhase phase) noexcept {
    switch (phase) {
        case RemovalPhase::MovingMetadata:
            return "moving-metadata";
        case RemovalPhase::MovingData:
            return "moving-data";
        case RemovalPhase::Fencing:
            return "fencing";
        case RemovalPhase::Proving:
            return "proving";
        case RemovalPhase::Unproven:
            return "unproven";
        case RemovalPhase::Safe:
            return "safe";
        case RemovalPhase::Cancelled:
            return "cancelled";
        case RemovalPhase::Failed:
            return "failed";
    }
    return "unknown";
}

bool is_ended(RemovalPhase phase) noexcept {
    return phase == RemovalPhase::Safe || phase == RemovalPhase::Cancelled ||
           phase == RemovalPhase::Failed;
}

RemovalService::RemovalService(store::Store& store, session::Registry& registry, Mover& mover,
                               FailureBook& book, base::EventSink& events, FaultPoints& faults,
                               std::function<void(const std::string& device)> on_removed)
    : store_(store),
      registry_(registry),
      mover_(mover),
      book_(book),
      events_(events),
      faults_(faults),
      on_removed_(std::move(on_removed)) {}

RemovalService::~RemovalService() {
    std::map<std::string, std::unique_ptr<Removal>> removals;
    {
        MutexLock lock(mutex_);
        removals.swap(removals_);
    }
}

Result<RemovalPlan> RemovalService::plan(const std::vector<ManagedDevice>& devices) {
    RemovalPlan plan;
    std::map<base::DeviceId, bool> leaving;
    for (const auto& device : devices) {
        plan.devices.push_back(device.device->name());
        leaving[device.id] = true;
    }
    MutexLock lock(mutex_);
    for (const auto& usage : store_.usage()) {
        if (leaving.contains(usage.id)) {
            plan.bytes_to_move += usage.data_bytes;
            plan.extents_to_move += usage.extents;
            plan.moves_metadata = plan.moves_metadata || usage.has_metadata;
            if (usage.is_leaving) plan.reason = "device " + usage.name + " is leaving already";
        } else if (!usage.is_leaving) {
            plan.free_bytes_elsewhere += usage.free_bytes;
        }
    }
    std::map<pid_t, AffectedProcess> processes;
    for (const auto& mapping : registry_.mappings()) {
        for (const auto& extent : store_.extents(mapping.inode, mapping.file_range)) {
            if (!leaving.contains(extent.device)) continue;
            auto& process = processes[mapping.pid];
            process.pid = mapping.pid;
            process.command = mapping.command;
            process.mapped_bytes += extent.length;
        }
    }
    for (auto& [pid, process] : processes) plan.processes.push_back(std::move(process));
    if (!plan.reason.empty()) return plan;
    LeavingMark mark(store_, devices);
    auto moves = reserve_all(store_, devices);
    plan.is_possible = moves.ok();
    if (!moves)
        plan.reason = moves.error().message();
    else
        for (const auto& reserved : *moves) store_.abort_moves(reserved);
    return plan;
}

Status RemovalService::start(const std::vector<ManagedDevice>& devices,
                             const RemovalOptions& options) {
    if (devices.empty()) return Error(Code::Invalid, "name at least one device to pull");
    std::vector<std::unique_ptr<Removal>> ended;  // joined after the lock is dropped
    MutexLock lock(mutex_);
    for (const auto& device : devices) {
        const auto known = removals_.find(device.device->name());
        if (known != removals_.end() && known->second->is_running_locked())
            return Error(Code::Busy, "device " + known->first +
                                         " is leaving already; see: refault device list");
    }
    LeavingMark mark(store_, devices);
    for (auto& [name, removal] : removals_)
        if (removal->is_running_locked()) RETURN_IF_ERROR(removal->replan_locked());
    auto moves = reserve_all(store_, devices);
    if (!moves) return moves.error();
    mark.keep();
    for (std::size_t i = 0; i < devices.size(); ++i) {
        const auto& device = devices[i];
        base::discard(device.slot->begin_removal(),
                      "an indicator that cannot blink does not keep the data from moving");
        auto& place = removals_[device.device->name()];
        if (place) ended.push_back(std::move(place));
        place = std::make_unique<Removal>(*this, device, options, std::move((*moves)[i]));
        place->start();
    }
    ++version_;
    changed_.notify_all();
    return {};
}

Status RemovalService::cancel(const std::string& device) {
    MutexLock lock(mutex_);
    const auto find = [&]() -> Removal* {
        mutex_.assert_held();
        const auto at = removals_.find(device);
        return at == removals_.end() ? nullptr : at->second.get();
    };
    Removal* removal = find();
    if (removal == nullptr || !removal->is_running_locked())
        return Error(Code::Invalid, "device " + device + " is not leaving; nothing to cancel");
    removal->request_cancel_locked();
    while ((removal = find()) != nullptr && removal->is_running_locked()) changed_.wait(mutex_);
    if (removal != nullptr && removal->status_locked().phase == RemovalPhase::Safe)
        return Error(Code::Invalid, "too late: device " + device + " is safe to pull already");
    return {};
}

Result<RemovalStatus> RemovalService::status(const std::string& device) const {
    MutexLock lock(mutex_);
    const auto at = removals_.find(device);
    if (at == removals_.end())
        return Error(Code::NotFound, "no removal of a device " + device + " is known");
    return at->second->status_locked();
}

std::vector<RemovalStatus> RemovalService::all() const {
    MutexLock lock(mutex_);
    std::vector<RemovalStatus> statuses;
    for (const auto& [name, removal] : removals_) statuses.push_back(removal->status_locked());
    return statuses;
}

std::uint64_t RemovalService::wait_for_change(std::uint64_t seen_version,
                                              std::chrono::milliseconds limit) const {
    MutexLock lock(mutex_);
    const auto deadline = steady_clock::now() + limit;
    while (version_ == seen_version && steady_clock::now() < deadline)
        (void)changed_.wait_until(mutex_, deadline);
    return version_;
}

}  // namespace refault::failure
