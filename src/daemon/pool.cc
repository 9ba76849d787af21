// Putting a pool together, and what is asked of it.
#include "daemon/pool.h"

#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/log.h"

namespace refault::daemon {

using base::Code;
using base::Error;
using base::MutexLock;
using device::DeviceSpec;
using store::DevicePtr;

namespace {

Status check_names(const std::vector<DeviceSpec>& specs) {
    if (specs.empty()) return Error(Code::Invalid, "a pool needs at least one device");
    std::set<std::string> names;
    for (const auto& spec : specs)
        if (!names.insert(spec.name).second)
            return Error(Code::Exists, "two devices are named " + spec.name);
    return {};
}

}  // namespace

Result<std::unique_ptr<Pool>> Pool::create(const std::string& name,
                                           const std::vector<DeviceSpec>& specs,
                                           const PoolOptions& options, base::EventSink& events) {
    RETURN_IF_ERROR(check_names(specs));
    auto uuid = base::Uuid::random();
    if (!uuid) return uuid.error();
    std::vector<DevicePtr> devices;
    for (const auto& spec : specs) {
        auto device = device::Device::create(spec, *uuid);
        if (!device) return device.error();
        devices.push_back(std::move(*device));
    }
    std::unique_ptr<Pool> pool(new Pool(events));
    auto store = store::Store::create(name, devices, base::Cred{::geteuid(), ::getegid(), {}, 0});
    if (!store) return store.error();
    pool->store_ = std::move(*store);
    RETURN_IF_ERROR(pool->assemble(std::move(devices), options, {}));
    events.publish({"pool-created", {{"pool", name}, {"devices", std::uint64_t(specs.size())}}});
    return pool;
}

Result<std::unique_ptr<Pool>> Pool::open(const std::vector<DeviceSpec>& specs,
                                         const PoolOptions& options, base::EventSink& events,
                                         bool is_degraded) {
    if (specs.empty()) return Error(Code::Invalid, "name the devices of the pool to open");
    std::vector<DevicePtr> devices;
    for (const auto& spec : specs) {
        auto device = device::Device::open(spec);
        if (!device) return device.error();
        devices.push_back(std::move(*device));
    }
    return open_devices(std::move(devices), options, events, is_degraded, nullptr);
}

Result<std::unique_ptr<Pool>> Pool::open_devices(std::vector<DevicePtr> devices,
                                                 const PoolOptions& options,
                                                 base::EventSink& events, bool is_degraded,
                                                 HandOver* handed_over) {
    std::unique_ptr<Pool> pool(new Pool(events));
    auto predecessors = find_predecessors(devices);
    // A mount that goes on keeps files without names as well.
    const bool keeps = handed_over != nullptr || !predecessors.pids.empty();
    using LeftOvers = store::Store::LeftOvers;
    auto store =
        store::Store::open(devices, is_degraded, keeps ? LeftOvers::Keep : LeftOvers::Clear);
    if (!store) return store.error();
    pool->store_ = std::move(*store);
    // What is no member any more, or not yet again, is let go of.
    std::erase_if(devices, [&](const DevicePtr& device) {
        const auto id = pool->store_->find_device(device->name());
        return !id || *pool->store_->device(*id) != device;
    });
    pool->held_ = std::make_unique<failure::HeldSegments>(*pool->store_, events);
    for (const auto& device : devices) pool->held_->set_aside(*device);
    RETURN_IF_ERROR(
        pool->assemble(std::move(devices), options, std::move(predecessors), handed_over));
    events.publish({"pool-opened", {{"pool", pool->store_->pool_name()}}});
    pool->list_absent_devices();
    return pool;
}

Pool::Predecessors Pool::find_predecessors(const std::vector<DevicePtr>& devices) {
    Predecessors found;
    for (const auto& device : devices) {
        auto target = failure::proof_target(*device);
        if (!target) continue;
        if (const auto report = failure::prove(*target))
            for (const auto& holder : report->holders)
                if (holder.kind == failure::Holder::Kind::Mapping) found.pids.insert(holder.pid);
        found.segments.push_back(std::move(target->files));
    }
    return found;
}

Status Pool::assemble(std::vector<DevicePtr> devices, const PoolOptions& options,
                      Predecessors predecessors, HandOver* handed_over) {
    run_dir_ = options.run_dir;
    {
        MutexLock lock(mutex_);
        for (std::size_t i = 0; i < devices.size(); ++i) {
            auto& device = devices[i];
            auto id = store_->find_device(device->name());
            if (!id) return id.error();
            auto slot =
                slot::make_slot(handed_over != nullptr ? handed_over->slots[i] : "emulated");
            if (!slot) return slot.error();
            const std::string name = device->name();
            devices_[name] = {*id, std::move(device),
                              std::make_shared<slot::SlotMachine>(std::move(*slot))};
        }
    }
    registry_ = std::make_unique<session::Registry>(*store_);
    barrier_ = std::make_unique<session::UserfaultBarrier>();
    mover_ = std::make_unique<failure::Mover>(*store_, *registry_, *barrier_, events_, faults_);
    if (!predecessors.pids.empty())
        for (const auto& usage : store_->usage()) mover_->suspect_pins(usage.id);
    book_ = std::make_unique<failure::FailureBook>(events_);
    loss_proof_ = std::make_unique<failure::LossProof>(*book_, events_);
    recovery_ = std::make_unique<failure::Recovery>(*store_, *registry_, *barrier_, *mover_, *book_,
                                                    faults_);
    resync_ = std::make_unique<failure::Resync>(*store_, *registry_, *barrier_, *mover_, *recovery_,
                                                *book_, events_, faults_);
    scrub_ = std::make_unique<failure::Scrub>(*resync_);
    failures_ = std::make_unique<failure::FailureService>(*store_, *registry_, *recovery_, *resync_,
                                                          *book_, *loss_proof_, events_,
                                                          [this](base::DeviceId id) { lose(id); });
    watch_ = std::make_unique<failure::DeviceWatch>(
        *store_, [this](base::DeviceId id) { failures_->suspect(id); },
        [this](base::DeviceId id) {
            if (auto device = store_->device(id))
                failures_->notify_failure(id, base::DeviceRange(0, (*device)->capacity_bytes()),
                                          failure::FailureKind::SurpriseRemoval);
        });
    files_ = std::make_unique<session::FileService>(*store_, *registry_, *mover_);
    files_->set_copies_missing_sink([this] { resync_->kick(); });
    mounts_ = std::make_unique<mount::MountService>(
        *store_, *registry_, *files_, events_,
        [this](const mount::MountOptions* what) { record_mount(what); });
    registry_->set_page_cache(*mounts_);
    removals_ = std::make_unique<failure::RemovalService>(
        *store_, *registry_, *mover_, *book_, events_, faults_,
        [this](const std::string& name) { forget(name); });
    server_ = std::make_unique<session::Server>(*store_, *registry_, *files_, *failures_, events_,
                                                options.server);
    detach_ = std::make_unique<failure::Detach>(*store_, *registry_, events_, faults_,
                                                [this](const std::string& name) { forget(name); });
    tracker_ = std::make_unique<failure::StoreTracker>(*store_, *registry_, faults_);
    const bool has_predecessors = !predecessors.pids.empty();
    absent_ = std::make_unique<failure::AbsentClients>(std::move(predecessors.segments),
                                                       std::move(predecessors.pids), *registry_);
    files_->set_move_gate([this] { return check_nobody_is_absent(); });
    loss_proof_->start();
    if (handed_over != nullptr && handed_over->mount) resume_mount(std::move(*handed_over->mount));
    RETURN_IF_ERROR(watch_->start());
    RETURN_IF_ERROR(server_->start());
    if (const auto back = check_nobody_is_absent(); !back)
        events_.publish({"clients-absent", {{"reason", back.error().message()}}});
    absent_->when_all_are_back([this, has_predecessors] {
        begin_to_repair();
        mounts_->release_claims();
        mount_again();
        if (held_) held_->start(*registry_);
        if (has_predecessors) events_.publish({"clients-back", {}});
    });
    return {};
}

void Pool::begin_to_repair() {
    store_->clear_left_overs();
    failures_->start();
    resync_->start();
    tracker_->start();
}

// Clients and operators first, then who works on their behalf, then what that works with. The mount
// while all else still runs: what programs have stored through it is written back, from where it
// is.
Pool::~Pool() {
    if (absent_) absent_->stop();
    held_.reset();
    if (mounts_) mounts_->stop();
    removals_.reset();
    detach_.reset();
    scrub_.reset();
    server_.reset();
    watch_.reset();
    tracker_.reset();
    failures_.reset();
    loss_proof_.reset();
    resync_.reset();
}

Result<std::uint64_t> Pool::notify_failure(const std::string& name, base::DeviceRange range,
                                           failure::FailureKind kind) {
    auto devices = find_all({name});
    if (!devices) return devices.error();
    if (kind == failure::FailureKind::PlannedRemoval) {
        RETURN_IF_ERROR(pull({name}, {}));
        return std::uint64_t{0};
    }
    RETURN_IF_ERROR(check_nobody_is_absent());
    return failures_->fail(devices->front().id, range, kind);
}

DeviceView Pool::view(const failure::ManagedDevice& device,
                      const std::vector<store::DeviceUsage>& usage) const {
    DeviceView view;
    view.id = device.id;
    view.name = device.device->name();
    view.kind = device.device->spec().to_string();
    view.directory = device.device->directory();
    view.is_private_mount = device.device->is_private_mount();
    view.takes_userfaultfd = device.device->memory_kind() == device::MemoryKind::Shmem;
    view.segment_bytes = device.device->segment_bytes();
    view.generation = device.device->label().generation;
    for (const auto& one : usage)
        if (one.id == device.id) view.usage = one;
    view.slot = device.slot->slot().describe();
    view.slot_state = device.slot->state();
    view.power = device.slot->slot().power();
    view.attention = device.slot->slot().attention();
    return view;
}

std::vector<DeviceView> Pool::devices() const {
    const auto usage = store_->usage();
    MutexLock lock(mutex_);
    std::vector<DeviceView> views;
    for (const auto& [name, device] : devices_) views.push_back(view(device, usage));
    for (const auto& [name, pulled] : pulled_) views.push_back(pulled);
    return views;
}

Result<DeviceView> Pool::device(const std::string& name) const {
    for (auto& one : devices())
        if (one.name == name) return one;
    return Error(Code::NotFound, "there is no device " + name + "; see: refault device list");
}

Result<std::vector<failure::ManagedDevice>> Pool::find_all(
    const std::vector<std::string>& names) const {
    MutexLock lock(mutex_);
    std::vector<failure::ManagedDevice> found;
    for (const auto& name : std::set<std::string>(names.begin(), names.end())) {
        const auto at = devices_.find(name);
        if (at == devices_.end()) return no_device(name);
        found.push_back(at->second);
    }
    return found;
}

Error Pool::no_device(const std::string& name) const {
    const auto known = pulled_.find(name);
    const auto absent = store_->absent_devices();
    const bool is_absent = std::find(absent.begin(), absent.end(), name) != absent.end();
    if (known != pulled_.end() && !known->second.is_lost)
        return Error(Code::NotFound, "device " + name + " was pulled already");
    if (known == pulled_.end() && !is_absent)
        return Error(Code::NotFound, "there is no device " + name + "; see: refault device list");
    const bool is_ram = known != pulled_.end() && known->second.kind.starts_with("ram:");
    const auto kind = known == pulled_.end() ? "dir:PATH" : known->second.kind;
    return Error(Code::NotFound,
                 "device " + name + " is lost: it left without being asked; " +
                     (is_ram ? "its memory does not come back, add another with: "
                             : "when it is there again, it comes back with its data by: ") +
                     "refault device add " + name + "=" + kind);
}

Result<base::DeviceId> Pool::find_device(const std::string& name) const {
    auto found = find_all({name});
    if (!found) return found.error();
    return found->front().id;
}

std::string Pool::name_of(base::DeviceId id) const {
    MutexLock lock(mutex_);
    for (const auto& [name, device] : devices_)
        if (device.id == id) return name;
    for (const auto& [name, device] : pulled_)
        if (device.id == id) return name;
    return "device " + std::to_string(id.raw());
}

Status Pool::check_some_stay(const std::vector<failure::ManagedDevice>& leaving) const {
    for (const auto& usage : store_->usage()) {
        const bool is_named = std::any_of(leaving.begin(), leaving.end(), [&](const auto& device) {
            return device.id == usage.id;
        });
        if (!usage.is_leaving && !is_named) return {};
    }
    return Error(Code::NoSpace,
                 "no device would stay to hold the pool; add one first with: refault device add");
}

Result<failure::RemovalPlan> Pool::plan_pull(const std::vector<std::string>& names) {
    auto devices = find_all(names);
    if (!devices) return devices.error();
    auto plan = removals_->plan(*devices);
    if (auto stays = check_some_stay(*devices); plan && plan->is_possible && !stays) {
        plan->is_possible = false;
        plan->reason = stays.error().message();
    }
    return plan;
}

Status Pool::pull(const std::vector<std::string>& names, const failure::RemovalOptions& options) {
    auto devices = find_all(names);
    if (!devices) return devices.error();
    RETURN_IF_ERROR(check_some_stay(*devices));
    RETURN_IF_ERROR(check_nobody_is_absent());
    return removals_->start(*devices, options);
}

Result<failure::DetachPlan> Pool::plan_detach(const std::vector<std::string>& names) {
    auto devices = find_all(names);
    if (!devices) return devices.error();
    auto plan = detach_->plan(*devices);
    if (auto stays = check_some_stay(*devices); plan && plan->is_possible() && !stays)
        plan->reason = stays.error().message();
    return plan;
}

Status Pool::detach(const std::vector<std::string>& names, failure::DetachOptions options) {
    auto devices = find_all(names);
    if (!devices) return devices.error();
    RETURN_IF_ERROR(check_some_stay(*devices));
    if (options.pool_name.empty()) options.pool_name = store_->pool_name() + "-" + names.front();
    RETURN_IF_ERROR(check_nobody_is_absent());
    return detach_->start(*devices, options);
}

Result<failure::ProofReport> Pool::prove(const std::string& name) {
    auto devices = find_all({name});
    if (!devices) return devices.error();
    auto target = failure::proof_target(*devices->front().device);
    if (!target) return target.error();
    return failure::prove(*target);
}

}  // namespace refault::daemon
