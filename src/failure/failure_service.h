// The one entry point for everything that fails, and the desk where clients hand in their SIGBUS.
// Whoever notices first starts the pipeline: a client's fault, the daemon's own error, the watch on
// the devices, an operator.
//
//   notify_failure ----+
//   media error -------+--> queue --> thread "failures": examine, recover, answer who waits
//   client's SIGBUS ---+                         |
//   watch -------------+                         +--> resync (what has fewer copies now)
//
// What cannot be dealt with now, because another operation holds it or the journal takes nothing,
// is tried again for some seconds, with growing pauses; then it is an event, and an error for who
// asked.
//
// Thread-safe. Its lock is a leaf, and is not held while anything is recovered.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <variant>

#include "base/mutex.h"
#include "base/thread.h"
#include "failure/loss_proof.h"
#include "failure/recovery.h"
#include "failure/resync.h"
#include "session/fault_desk.h"

namespace refault::failure {

class FailureService final : public session::FaultDesk {
  public:
    // `on_device_lost` is called from the thread "failures" when a device has left the pool's books
    // without having been asked.
    FailureService(store::Store& store, session::Registry& registry, Recovery& recovery,
                   Resync& resync, FailureBook& book, LossProof& proof, base::EventSink& events,
                   std::function<void(base::DeviceId)> on_device_lost);
    ~FailureService() override;
    void start();

    // Never waits. A range that is the whole device means that the device is gone; a part of one is
    // bad or missing memory on a device that stays.
    void notify_failure(base::DeviceId device, base::DeviceRange range, FailureKind kind);
    // The same, and waits until it is recovered or lost; returns the number of the record. Done by
    // the caller's thread, unless it has to be tried again: the way to the thread `failures` and
    // back would take as long as the work.
    Result<std::uint64_t> fail(base::DeviceId device, base::DeviceRange range, FailureKind kind);
    // Something about the device is odd: looks at all of it.
    void suspect(base::DeviceId device);

    void fault(const std::shared_ptr<session::Session>& session, const wire::Fault& fault) override;
    void writer_gone(base::InodeNo inode) override;
    // Failures that were noted and are not dealt with yet; of what they cost the resync does not
    // know.
    std::uint64_t under_way() const noexcept { return under_way_.load(); }

  private:
    struct Failure {
        base::DeviceId device;
        base::DeviceRange range;
        FailureKind kind = FailureKind::Poison;
        std::chrono::steady_clock::time_point noticed = std::chrono::steady_clock::now();
        std::uint64_t ticket = 0;  // of who waits
        // Of what was begun, and could not be ended at once:
        std::uint64_t record = 0;
        std::vector<base::DeviceRange> left = {};
        std::uint32_t tries = 0;
        std::chrono::steady_clock::time_point not_before = {};
    };
    struct Suspicion {
        base::DeviceId device;
    };
    struct MediaError {
        base::DeviceId device;
        base::DeviceRange range;
        store::MediaAccess access = store::MediaAccess::Read;
        bool is_io = false;
    };
    struct WaitingFault {
        std::shared_ptr<session::Session> session;
        wire::Fault fault;
        std::chrono::steady_clock::time_point since;
        std::chrono::steady_clock::time_point not_before;
        std::uint32_t rounds = 0;
    };
    using Item = std::variant<Failure, Suspicion, MediaError, WaitingFault>;
    struct Done {
        Status status;
        std::uint64_t record = 0;
    };

    void run();
    std::optional<Item> next();
    void push(Item item);
    void handle(Failure failure) REQUIRES(work_mutex_);
    void handle(const Suspicion& suspicion) REQUIRES(work_mutex_);
    void handle(const MediaError& error) REQUIRES(work_mutex_);
    void handle(WaitingFault fault) REQUIRES(work_mutex_);
    // Notes in the failure what is left after an error.
    Status recover(Failure& failure) REQUIRES(work_mutex_);
    Status recover_all(Failure& failure, const device::Device& device) REQUIRES(work_mutex_);
    bool is_tried_again(const Failure& failure, const Status& status) const;
    void end(const Failure& failure, Status status);
    // The answer, or nothing when the fault has to wait: for a pager, or for what it has set off.
    std::optional<wire::Verdict> judge(const WaitingFault& waiting) REQUIRES(work_mutex_);
    std::optional<wire::Answer> judge_memory(const WaitingFault& waiting,
                                             const session::Registry::Touched& touched)
        REQUIRES(work_mutex_);
    std::vector<base::DeviceRange> unreadable_pages(base::DeviceId device,
                                                    base::DeviceRange range) const;
    struct Damage {
        std::vector<base::DeviceRange> missing;  // one of each damaged segment
        std::size_t gone = 0;
        std::size_t cut = 0;
        bool is_all_gone = false;
    };
    // What of the segment is missing though somebody has bytes there. Into one that was cut nothing
    // new is placed from here on.
    std::optional<device::SegmentState> find_damage(base::DeviceId id, const device::Device& device,
                                                    base::SegmentNo segment) const;
    Damage look(base::DeviceId id, const device::Device& device) const;
    // Looks at every segment; recovers what is not whole. True when anything was wrong.
    bool examine(base::DeviceId device) REQUIRES(work_mutex_);

    store::Store& store_;
    session::Registry& registry_;
    Recovery& recovery_;
    Resync& resync_;
    FailureBook& book_;
    LossProof& proof_;
    base::EventSink& events_;
    const std::function<void(base::DeviceId)> on_device_lost_;
    // Held over each item: one failure at a time. Before all other locks.
    base::Mutex work_mutex_{base::LockRank::FailureWork};
    mutable base::Mutex mutex_;
    base::CondVar changed_;
    std::deque<Item> queue_ GUARDED_BY(mutex_);
    std::deque<WaitingFault> waiting_ GUARDED_BY(mutex_);
    std::deque<Failure> retries_ GUARDED_BY(mutex_);
    std::map<std::uint64_t, std::optional<Done>> tickets_ GUARDED_BY(mutex_);
    std::uint64_t next_ticket_ GUARDED_BY(mutex_) = 1;
    bool must_stop_ GUARDED_BY(mutex_) = false;
    std::atomic<std::uint64_t> under_way_{0};
    base::NamedThread thread_;
};

}  // namespace refault::failure
