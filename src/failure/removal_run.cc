// The pull thread: metadata, data, fence, proof, light.
#include "failure/removal_run.h"

#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "failure/failure_book.h"
#include "failure/mover.h"

namespace refault::failure {

using base::Code;
using base::Error;
using base::MutexLock;
using session::Registry;
using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using store::Move;

namespace {
constexpr std::uint64_t kBatchBytesMax = 8ull << 20;
constexpr std::size_t kBatchMovesMax = 256;
// How long the move of a range waits for a pager that was handed a place in it and says nothing.
constexpr milliseconds kSilencePatience{2000};
// How long the proof waits for clients to let go of the old places; who is stopped shows up as a
// holder.
constexpr milliseconds kPlacePatience{1000};
constexpr milliseconds kProveInterval{1000};
constexpr milliseconds kRetryInterval{5};

double seconds_since(steady_clock::time_point start) {
    return duration<double>(steady_clock::now() - start).count();
}
}  // namespace

RemovalService::Removal::Removal(RemovalService& service, ManagedDevice device,
                                 RemovalOptions options, std::vector<Move> moves)
    : service_(service),
      device_(std::move(device)),
      options_(options),
      name_(device_.device->name()),
      pending_(moves.begin(), moves.end()) {
    status_.device = name_;
    status_.extents_total = moves.size();
    for (const auto& move : moves) status_.bytes_total += move.from.length;
    status_.slot_state = device_.slot->state();
}

RemovalService::Removal::~Removal() {
    {
        MutexLock lock(service_.mutex_);
        request_cancel_locked();
    }
    thread_.join();
}

void RemovalService::Removal::start() {
    thread_ = base::NamedThread("pull-" + name_, [this] { run(); });
}

void RemovalService::Removal::request_cancel_locked() {
    cancel_requested_ = true;
    service_.changed_.notify_all();
}

Status RemovalService::Removal::replan_locked() {
    for (auto& move : pending_) {
        if (service_.store_.is_current(move)) continue;
        auto again = service_.store_.reserve_again(move);
        if (again) move = *again;
        // Any other error: the extent itself has changed; the thread will drop the move.
        else if (again.error().code() == Code::NoSpace)
            return again.error();
    }
    return {};
}

void RemovalService::Removal::run() {
    record_ = service_.book_.open(name_, base::DeviceRange(0, device_.device->capacity_bytes()),
                                  FailureKind::PlannedRemoval);
    publish("device-leaving", {{"bytes", status_.bytes_total}, {"extents", status_.extents_total}});
    auto ended = move_metadata();
    if (ended) ended = move_data();
    if (ended) {
        service_.book_.repaired(record_);
        wait_for_pagers();
        service_.book_.unmapped(record_);
        ended = prove_and_finish();
    }
    if (!ended) end(ended.error());
}

Status RemovalService::Removal::check_stop() {
    MutexLock lock(service_.mutex_);
    return check_stop_locked();
}

Status RemovalService::Removal::check_stop_locked() {
    if (cancel_requested_)
        return Error(Code::Cancelled, "cancelled; the device is back in service");
    if (steady_clock::now() > data_deadline_locked())
        return Error(Code::TimedOut, "not done in time: " + base::format_size(status_.bytes_done) +
                                         " of " + base::format_size(status_.bytes_total) +
                                         " had moved; the device is back in service");
    return {};
}

steady_clock::time_point RemovalService::Removal::data_deadline_locked() const {
    constexpr auto kNever = steady_clock::time_point::max();
    const bool ends = options_.timeout && !data_has_moved_ && *options_.timeout < kNever - started_;
    return ends ? started_ + *options_.timeout : kNever;
}

void RemovalService::Removal::pause(steady_clock::time_point until) {
    MutexLock lock(service_.mutex_);
    const auto wake = std::min(until, data_deadline_locked());
    while (check_stop_locked() && steady_clock::now() < until)
        (void)service_.changed_.wait_until(service_.mutex_, wake);
}

Status RemovalService::Removal::move_metadata() {
    set_phase(RemovalPhase::MovingMetadata);
    RETURN_IF_ERROR(check_stop());
    RETURN_IF_ERROR(service_.faults_.pass(FaultPoint::PullMetadata));
    return service_.store_.evacuate_metadata(device_.id);
}

Status RemovalService::Removal::move_data() {
    set_phase(RemovalPhase::MovingData);
    const auto start = steady_clock::now();
    rate_checked_ = start;
    for (;;) {
        auto batch = next_batch();
        // Also when the pace was waited for just now.
        if (const auto goes_on = check_stop(); !goes_on) {
            service_.store_.abort_moves(batch);
            return goes_on;
        }
        if (batch.empty()) {
            // Files that were resized meanwhile may have left pieces that no move covers.
            auto rest = service_.store_.reserve_evacuation(device_.id, kBatchBytesMax);
            if (!rest) return rest.error();
            MutexLock lock(service_.mutex_);
            if (rest->empty()) {
                status_.bytes_done = status_.bytes_total;
                status_.extents_done = status_.extents_total;
                data_has_moved_ = true;
                return {};
            }
            pending_.assign(rest->begin(), rest->end());
            continue;
        }
        std::uint64_t bytes = 0;
        for (const auto& move : batch) bytes += move.from.length;
        const bool is_overdue = silent_since_ != steady_clock::time_point{} &&
                                steady_clock::now() - silent_since_ > kSilencePatience;
        auto outcome = service_.mover_.move_batch(
            batch, is_overdue ? Registry::OnSilence::GoOn : Registry::OnSilence::Refuse);
        if (!outcome && outcome.error().code() == Code::Busy) {
            // The batch's target has begun to leave, too, or a file has changed: nothing of it has
            // moved, and what is left on the device is planned again at the end.
            pause(steady_clock::now() + kRetryInterval);
            continue;
        }
        RETURN_IF_ERROR(finish_batch(std::move(outcome), bytes, batch.size()));
        MutexLock lock(service_.mutex_);
        status_.moving_seconds = seconds_since(start);
    }
}

std::vector<Move> RemovalService::Removal::next_batch() {
    std::vector<Move> batch;
    std::vector<Move> dropped;
    std::uint64_t bytes = 0;
    {
        MutexLock lock(service_.mutex_);
        while (!pending_.empty() && batch.size() < kBatchMovesMax &&
               (batch.empty() || bytes + pending_.front().from.length <= kBatchBytesMax)) {
            const Move move = pending_.front();
            pending_.pop_front();
            if (service_.store_.is_current(move)) {
                batch.push_back(move);
                bytes += move.from.length;
            } else {
                dropped.push_back(move);
                status_.bytes_done =
                    std::min(status_.bytes_done + move.from.length, status_.bytes_total);
                ++status_.extents_done;
            }
        }
    }
    service_.store_.abort_moves(dropped);
    if (options_.rate_bytes_per_s && bytes > 0) {
        const auto now = steady_clock::now();
        const auto rate =
            static_cast<double>(std::max<std::uint64_t>(*options_.rate_bytes_per_s, 1));
        rate_credit_bytes_ =
            std::min(rate_credit_bytes_ + duration<double>(now - rate_checked_).count() * rate,
                     static_cast<double>(kBatchBytesMax)) -
            static_cast<double>(bytes);
        rate_checked_ = now;
        if (rate_credit_bytes_ < 0)
            pause(now + std::chrono::duration_cast<steady_clock::duration>(
                            duration<double>(-rate_credit_bytes_ / rate)));
    }
    return batch;
}

Status RemovalService::Removal::finish_batch(Result<MoveOutcome> outcome, std::uint64_t batch_bytes,
                                             std::size_t batch_moves) {
    if (!outcome) return outcome.error();
    std::uint64_t later_bytes = 0;
    for (const auto& move : outcome->later) later_bytes += move.from.length;
    {
        MutexLock lock(service_.mutex_);
        status_.bytes_moved += outcome->bytes_moved;
        status_.bytes_done =
            std::min(status_.bytes_done + batch_bytes - later_bytes, status_.bytes_total);
        status_.extents_done = std::min(status_.extents_done + batch_moves - outcome->later.size(),
                                        status_.extents_total);
        status_.worst_fence_ms = std::max(status_.worst_fence_ms, outcome->fence_ms);
        status_.reason = outcome->reason.empty() ? "" : "waiting: " + outcome->reason;
        for (const auto& move : outcome->later) pending_.push_back(move);
        ++service_.version_;
        service_.changed_.notify_all();
    }
    if (outcome->later.empty() || later_bytes < batch_bytes) {
        silent_since_ = {};
        return {};
    }
    if (silent_since_ == steady_clock::time_point{}) silent_since_ = steady_clock::now();
    pause(steady_clock::now() + kRetryInterval);
    return {};
}

void RemovalService::Removal::wait_for_pagers() {
    set_phase(RemovalPhase::Fencing);
    const auto late = service_.registry_.wait_until_placed(steady_clock::now() + kPlacePatience);
    service_.mover_.release_placed();
    MutexLock lock(service_.mutex_);
    status_.late_clients = late;
}

Status RemovalService::Removal::prove_and_finish() {
    set_phase(RemovalPhase::Proving);
    const auto start = steady_clock::now();
    // The segments that every session has let go of are released by now. The directory name and,
    // for a private tmpfs, its count of inodes find who still holds one, whether it is released or
    // not.
    const store::DevicePtr device = device_.device;  // the target refers to it
    auto target = proof_target(*device);
    if (!target) return target.error();
    for (;;) {
        service_.mover_.release_placed();
        RETURN_IF_ERROR(service_.faults_.pass(FaultPoint::PullProve));
        auto report = prove(*target);
        if (!report) return report.error();
        if (!options_.accepts_pinned)
            report->pinned_pages = service_.mover_.pinned_pages(device_.id);
        {
            MutexLock lock(service_.mutex_);
            status_.proving_seconds = seconds_since(start);
            status_.proof = *report;
        }
        // A client that never answered may have let go all the same. Once its segments have no
        // names, a descriptor in flight shows as a hidden inode: look again. A client that could
        // not be looked into may still have them mapped, and would get SIGBUS.
        if (report->holders.empty() && are_clients_read(*report) &&
            service_.mover_.release_unmapped(device_.id) > 0)
            continue;
        if (report->is_proven()) {
            auto done = conclude(*report);
            if (done || done.error().code() != Code::Busy) return done;
            // Another pull holds a batch that was to go here; it finds out when it begins to move.
            pause(steady_clock::now() + kRetryInterval);
            RETURN_IF_ERROR(check_stop());
            continue;
        }
        const std::string reason = report->summary();
        if (device_.slot->state() == slot::SlotState::Leaving) {
            base::discard(device_.slot->unproven(), "the phase says it too");
            publish("device-unproven", {{"reason", reason}});
        }
        {
            MutexLock lock(service_.mutex_);
            status_.reason = reason;
        }
        set_phase(RemovalPhase::Unproven);
        if (!service_.store_.device(device_.id))
            return Error(Code::Gone,
                         "the device was lost before this was proven: see refault device list");
        pause(steady_clock::now() + kProveInterval);
        RETURN_IF_ERROR(check_stop());
    }
}

bool RemovalService::Removal::are_clients_read(const ProofReport& report) const {
    const auto clients = service_.registry_.sessions();
    return std::none_of(clients.begin(), clients.end(), [&](const session::SessionInfo& client) {
        return std::find(report.unreadable.begin(), report.unreadable.end(), client.pid) !=
               report.unreadable.end();
    });
}

Status RemovalService::Removal::conclude(const ProofReport& report) {
    RETURN_IF_ERROR(service_.faults_.pass(FaultPoint::PullForget));
    RETURN_IF_ERROR(service_.store_.remove_device(device_.id));
    base::discard(device_.slot->proved(),
                  "an indicator that cannot be set is shown by the slot's own state");
    {
        MutexLock lock(service_.mutex_);
        status_.reason.clear();
    }
    service_.book_.proven(record_);
    publish("device-safe", {{"proof", report.summary()}, {"power", std::string("off")}});
    service_.on_removed_(name_);
    device_.device.reset();  // a ram: device ends when the last user of it does
    set_phase(RemovalPhase::Safe);
    return {};
}

void RemovalService::Removal::set_phase(RemovalPhase phase) {
    const auto slot_state = device_.slot->state();
    bool has_changed;
    {
        MutexLock lock(service_.mutex_);
        has_changed = status_.phase != phase;
        status_.phase = phase;
        status_.slot_state = slot_state;
        ++service_.version_;
        service_.changed_.notify_all();
    }
    if (has_changed) publish("removal-phase", {{"phase", std::string(phase_name(phase))}});
}

void RemovalService::Removal::end(const Error& error) {
    // When the pool loses it, another instance of it may join.
    device_.device.reset();
    const bool is_wanted = error.code() == Code::Cancelled || error.code() == Code::TimedOut;
    {
        MutexLock lock(service_.mutex_);
        give_up_locked(is_wanted ? RemovalPhase::Cancelled : RemovalPhase::Failed, error.message());
    }
    base::discard(service_.store_.ensure_metadata_copies(),
                  "one copy is enough to go on; the next change tries again");
    publish(is_wanted ? "removal-cancelled" : "removal-failed", {{"reason", error.message()}});
}

void RemovalService::Removal::give_up_locked(RemovalPhase phase, std::string reason) {
    service_.mutex_.assert_held();
    service_.store_.abort_moves(std::vector<Move>(pending_.begin(), pending_.end()));
    pending_.clear();
    service_.store_.set_leaving(device_.id, false);
    // After a failure attention stays on until the next pull; the device itself serves on.
    const auto shown =
        phase == RemovalPhase::Failed ? device_.slot->failed() : device_.slot->restore();
    base::discard(shown, "the phase says it too");
    status_.phase = phase;
    status_.reason = std::move(reason);
    status_.slot_state = device_.slot->state();
    ++service_.version_;
    service_.changed_.notify_all();
}

void RemovalService::Removal::publish(
    const char* kind, std::vector<std::pair<std::string, base::EventValue>> fields) {
    fields.insert(fields.begin(), {"device", name_});
    service_.events_.publish({kind, std::move(fields)});
}

}  // namespace refault::failure
