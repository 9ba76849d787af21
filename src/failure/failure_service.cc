// The queue, and what is done with each item.
#include "failure/failure_service.h"

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/log.h"

namespace refault::failure {

using base::Code;
using base::DeviceId;
using base::DeviceRange;
using base::Error;
using base::MutexLock;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using wire::Answer;
using wire::Verdict;

namespace {

// A fault whose place is on the way is looked at again after this long.
constexpr milliseconds kFaultInterval{1};
// After this long a pager does not come: the client tries again by itself.
constexpr milliseconds kFaultPatience{5000};
constexpr std::size_t kFaultsMax = 65536;
// While files of a device vanish, it is looked at again after this long.
constexpr milliseconds kVanishingInterval{10};
// 10 ms, 20, 40 ... 1.28 s: five seconds in all.
constexpr std::uint32_t kTriesMax = 10;
constexpr milliseconds kFirstPause{10};
constexpr std::uint32_t kDoublingsMax = 7;

// The first that is due; else the time at which one will be is noted in `wake`.
template <typename Entry>
std::optional<Entry> take_due(std::deque<Entry>& entries, steady_clock::time_point& wake) {
    const auto now = steady_clock::now();
    for (auto at = entries.begin(); at != entries.end(); ++at) {
        if (at->not_before <= now) {
            Entry due = std::move(*at);
            entries.erase(at);
            return due;
        }
        wake = std::min(wake, at->not_before);
    }
    return std::nullopt;
}

// A touch of a hole takes memory from the filesystem under the device. Where that is full, to try
// again would be SIGBUS for ever.
bool has_room(store::Store& store, base::InodeNo inode, base::FileRange page) {
    const auto layout = store.lock_layout_until(inode, store::Store::LayoutUse::Change,
                                                steady_clock::now() + kFaultInterval);
    if (!layout) return true;  // it moves: the next touch tells
    const auto given = store.populate(inode, page);
    return given || given.error().code() != Code::NoSpace;
}

}  // namespace

FailureService::FailureService(store::Store& store, session::Registry& registry, Recovery& recovery,
                               Resync& resync, FailureBook& book, LossProof& proof,
                               base::EventSink& events,
                               std::function<void(DeviceId)> on_device_lost)
    : store_(store),
      registry_(registry),
      recovery_(recovery),
      resync_(resync),
      book_(book),
      proof_(proof),
      events_(events),
      on_device_lost_(std::move(on_device_lost)) {
    store_.set_media_error_sink(
        [this](DeviceId device, DeviceRange range, store::MediaAccess access, const Error& error) {
            push(MediaError{device, range, access, error.code() == Code::Io});
        });
}

FailureService::~FailureService() {
    store_.set_media_error_sink({});
    {
        MutexLock lock(mutex_);
        must_stop_ = true;
        changed_.notify_all();
    }
    thread_.join();
}

void FailureService::start() {
    thread_ = base::NamedThread("failures", [this] { run(); });
}

// Whoever wakes up wants the lock: it is let go first, here and below.
void FailureService::push(Item item) {
    {
        MutexLock lock(mutex_);
        queue_.push_back(std::move(item));
    }
    changed_.notify_all();
}

void FailureService::notify_failure(DeviceId device, DeviceRange range, FailureKind kind) {
    push(Failure{device, range, kind});
}

void FailureService::suspect(DeviceId device) {
    MutexLock lock(mutex_);
    for (const auto& item : queue_)
        if (const auto* known = std::get_if<Suspicion>(&item); known && known->device == device)
            return;
    queue_.emplace_back(Suspicion{device});
    changed_.notify_all();
}

Result<std::uint64_t> FailureService::fail(DeviceId device, DeviceRange range, FailureKind kind) {
    Failure failure{device, range, kind};
    {
        MutexLock lock(mutex_);
        failure.ticket = next_ticket_++;
        tickets_[failure.ticket];
    }
    const auto ticket = failure.ticket;
    {
        MutexLock work(work_mutex_);
        handle(std::move(failure));
    }
    MutexLock lock(mutex_);
    while (!tickets_[ticket] && !must_stop_) changed_.wait(mutex_);
    const auto done = tickets_.extract(ticket).mapped();
    if (!done) return Error(Code::Cancelled, "the daemon is ending");
    if (!done->status) return done->status.error();
    return done->record;
}

void FailureService::fault(const std::shared_ptr<session::Session>& session,
                           const wire::Fault& fault) {
    const auto now = steady_clock::now();
    MutexLock lock(mutex_);
    // A client that floods us waits for its own answers.
    if (waiting_.size() >= kFaultsMax) return session->end_fault();
    waiting_.push_back({session, fault, now, now, 0});
    changed_.notify_all();
}

void FailureService::writer_gone(base::InodeNo) {
    resync_.kick();
}

std::optional<FailureService::Item> FailureService::next() {
    MutexLock lock(mutex_);
    for (;;) {
        if (must_stop_) return std::nullopt;
        if (!queue_.empty()) {
            auto item = std::move(queue_.front());
            queue_.pop_front();
            return item;
        }
        auto wake = steady_clock::time_point::max();
        if (auto item = take_due(retries_, wake)) return item;
        if (auto item = take_due(waiting_, wake)) return item;
        if (wake == steady_clock::time_point::max())
            changed_.wait(mutex_);
        else
            (void)changed_.wait_until(mutex_, wake);
    }
}

void FailureService::run() {
    while (auto item = next()) {
        MutexLock work(work_mutex_);
        std::visit([this](auto& typed) REQUIRES(work_mutex_) { handle(typed); }, *item);
    }
}

void FailureService::handle(Failure failure) {
    const auto done = recover(failure);
    if (!is_tried_again(failure, done)) return end(failure, done);
    base::log_line(base::LogLevel::Warning,
                   "a failure is dealt with a little later: " + done.error().message());
    failure.not_before =
        steady_clock::now() + kFirstPause * (1 << std::min(failure.tries, kDoublingsMax));
    ++failure.tries;
    {
        MutexLock lock(mutex_);
        retries_.push_back(std::move(failure));
    }
    changed_.notify_all();
}

// The device has left meanwhile, most likely because of the same failure; or it had the only copy
// of the metadata; or the range is none of the device's.
bool FailureService::is_tried_again(const Failure& failure, const Status& status) const {
    if (status || failure.tries >= kTriesMax) return false;
    const auto code = status.error().code();
    return code != Code::NotFound && code != Code::NoSpace && code != Code::Invalid;
}

void FailureService::end(const Failure& failure, Status status) {
    const bool is_closed = status && book_.close_if_repaired(failure.record);
    // A copy that was repaired may be marked as unlike its primary for that time.
    const bool needs_copies = !is_closed || book_.has_repaired_copy(failure.record);
    if (!status && status.error().code() != Code::NotFound) {
        base::log_line(base::LogLevel::Error,
                       "a failure could not be dealt with: " + status.error().message());
        events_.publish({"failure-not-handled",
                         {{"failure", failure.record}, {"reason", status.error().message()}}});
    }
    if (failure.ticket != 0) {
        {
            MutexLock lock(mutex_);
            tickets_[failure.ticket] = Done{std::move(status), failure.record};
        }
        changed_.notify_all();
    }
    // Who waits is answered first: the resync looks at every file.
    if (needs_copies) resync_.kick();
    // After the kick: at no moment does it look as if all copies were there.
    if (failure.record != 0) under_way_.fetch_sub(1);
}

Status FailureService::recover(Failure& failure) {
    auto device = store_.device(failure.device);
    if (!device) return device.error();
    const DeviceRange whole(0, (*device)->capacity_bytes());
    const DeviceRange pages(base::align_down(failure.range.begin(), base::kPageBytes),
                            base::align_up(failure.range.end(), base::kPageBytes));
    failure.range = pages.intersect(whole);
    if (failure.range.empty()) return Error(Code::Invalid, "the range lies beyond the device");
    if (failure.record == 0) {
        failure.record =
            book_.open((*device)->name(), failure.range, failure.kind, failure.noticed);
        failure.left = {failure.range};
        under_way_.fetch_add(1);
    }
    if (failure.range == whole) return recover_all(failure, **device);
    return recovery_.recover_ranges(failure.device, failure.left, failure.kind, failure.record);
}

Status FailureService::recover_all(Failure& failure, const device::Device& device) {
    const auto done = recovery_.recover_device(failure.device, failure.kind, failure.record);
    // The pool goes on without it, whatever has to be tried again.
    if (failure.tries == 0) {
        proof_.watch(device, failure.record);
        on_device_lost_(failure.device);
        events_.publish({"device-lost", {{"device", device.name()}}});
    }
    return done;
}

// Memory that is missing is found by looking; memory that is there and answers with an error is
// bad.
void FailureService::handle(const MediaError& error) {
    if (examine(error.device) || !error.is_io) return;
    if (error.access == store::MediaAccess::Write)
        return handle(Failure{error.device, error.range, FailureKind::InputOutput});
    for (const auto bad : unreadable_pages(error.device, error.range))
        handle(Failure{error.device, bad, FailureKind::InputOutput});
}

// One bad page is no reason to give up the others that were read along with it. Neighbours are one
// range. Empty when all can be read by now.
std::vector<DeviceRange> FailureService::unreadable_pages(DeviceId id, DeviceRange range) const {
    std::vector<DeviceRange> bad;
    auto device = store_.device(id);
    if (!device) return bad;
    std::vector<std::uint8_t> page(base::kPageBytes);
    const auto end = base::align_up(range.end(), base::kPageBytes);
    for (auto at = base::align_down(range.begin(), base::kPageBytes); at < end;
         at += base::kPageBytes) {
        if ((*device)->read(at, page)) continue;
        if (!bad.empty() && bad.back().end() == at)
            bad.back() = DeviceRange(bad.back().begin(), at + base::kPageBytes);
        else
            bad.push_back(DeviceRange::of_length(at, base::kPageBytes));
    }
    return bad;
}

void FailureService::handle(const Suspicion& suspicion) {
    (void)examine(suspicion.device);
}

std::optional<device::SegmentState> FailureService::find_damage(DeviceId id,
                                                                const device::Device& device,
                                                                base::SegmentNo segment) const {
    const auto state = device.probe_segment(segment);
    if (state.health == device::SegmentHealth::Whole) return std::nullopt;
    if (state.health == device::SegmentHealth::Gone) return state;
    store_.set_held(id, segment, true);
    if (store_.locate(id, state.missing).empty()) return std::nullopt;
    return state;
}

// The segments that are in use and not whole, by two looks: in between one may have been released.
FailureService::Damage FailureService::look(DeviceId id, const device::Device& device) const {
    Damage damage;
    std::vector<base::SegmentNo> suspects;
    for (const auto segment : store_.segments_in_use(id))
        if (find_damage(id, device, segment)) suspects.push_back(segment);
    if (suspects.empty()) return damage;
    const auto in_use = store_.segments_in_use(id);
    for (const auto segment : suspects) {
        if (std::find(in_use.begin(), in_use.end(), segment) == in_use.end()) continue;
        const auto state = find_damage(id, device, segment);
        if (!state) continue;
        damage.missing.push_back(state->missing);
        ++(state->health == device::SegmentHealth::Gone ? damage.gone : damage.cut);
    }
    damage.is_all_gone = damage.gone > 0 && damage.gone == in_use.size();
    return damage;
}

// A device is gone when its label is, or every file on it. Whoever takes files away one by one is
// given the time to finish. What a client can do to its own segments (cut them) is never taken for
// the end of the device.
bool FailureService::examine(DeviceId id) {
    auto device = store_.device(id);
    if (!device) return false;
    auto damage = look(id, **device);
    // Who cuts a file may be about to remove it, which no client can.
    if (damage.cut > 0) {
        std::this_thread::sleep_for(kVanishingInterval);
        damage = look(id, **device);
    }
    for (std::size_t seen = 0; damage.gone > seen && !damage.is_all_gone;) {
        seen = damage.gone;
        std::this_thread::sleep_for(kVanishingInterval);
        damage = look(id, **device);
    }
    // Whoever takes the memory away is given nothing new to take.
    if (damage.gone > 0) store_.note_missing_files(id);
    const auto has_vanished = [&] {
        return store_.misses_files(id) && store_.segments_in_use(id).empty();
    };
    if (!(*device)->is_reachable() || damage.is_all_gone || has_vanished()) {
        handle(
            Failure{id, DeviceRange(0, (*device)->capacity_bytes()), FailureKind::SurpriseRemoval});
        return true;
    }
    for (const auto missing : damage.missing)
        handle(Failure{id, missing, FailureKind::SurpriseRemoval});
    // That may have been the last of it.
    if (has_vanished()) suspect(id);
    return !damage.missing.empty();
}

void FailureService::handle(WaitingFault waiting) {
    if (const auto verdict = judge(waiting)) {
        waiting.session->end_fault();
        return waiting.session->tell(*verdict);
    }
    ++waiting.rounds;
    waiting.not_before = steady_clock::now() + kFaultInterval;
    MutexLock lock(mutex_);
    waiting_.push_back(std::move(waiting));
}

std::optional<Verdict> FailureService::judge(const WaitingFault& waiting) {
    const auto& fault = waiting.fault;
    const auto touched = registry_.find_touched(waiting.session->id(), fault.address);
    if (!touched) return Verdict{fault.ticket, Answer::NotOurs, 0, 0};
    auto answer = judge_memory(waiting, *touched);
    if (!answer && steady_clock::now() - waiting.since > kFaultPatience) answer = Answer::Retry;
    if (!answer) return std::nullopt;
    if (*answer == Answer::Lost || *answer == Answer::Stale)
        book_.signalled(touched->inode, touched->page, waiting.session->cred().pid, fault.address,
                        *answer == Answer::Lost ? "lost" : "stale");
    return Verdict{fault.ticket, *answer, touched->addresses.begin(), touched->addresses.length()};
}

std::optional<Answer> FailureService::judge_memory(const WaitingFault& waiting,
                                                   const session::Registry::Touched& touched) {
    if (touched.lags && !touched.is_beyond) return std::nullopt;
    const auto extents = store_.extents(touched.inode, touched.page);
    const auto at = std::find_if(extents.begin(), extents.end(), [&](const store::Extent& extent) {
        return extent.replica == touched.replica;
    });
    if (touched.replica > 0 && at == extents.end()) return Answer::NoCopy;
    if (!store_.lost(touched.inode, touched.page).empty())
        return touched.replica > 0 ? Answer::NoCopy : Answer::Lost;
    if (touched.is_suspended) return Answer::Stale;
    if (touched.is_beyond || at == extents.end()) return Answer::BeyondEnd;
    if (examine(at->device)) return std::nullopt;
    // Without room the program has the kernel's own signal, as for an access beyond the end.
    if (waiting.rounds > 0)
        return has_room(store_, touched.inode, touched.page) ? Answer::Retry : Answer::BeyondEnd;
    // A client may say what it likes: poison is what the daemon cannot read either.
    if (waiting.fault.is_poison && !unreadable_pages(at->device, at->device_range()).empty())
        handle(Failure{at->device, at->device_range(), FailureKind::Poison});
    return std::nullopt;
}

}  // namespace refault::failure
