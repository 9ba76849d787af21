// Makes redundancy whole again in the background: copies that are missing, too many, or may differ.
// One thread, "resync", which sleeps until it is kicked.
//
//   for each file that needs attention:
//     too many copies   fence, drop, release
//     missing           reserve a place on another device, copy under the write barrier, hand out
//     may differ        when nobody stores into it any more: compare, and copy what differs from
//     the
//                       primary; then the mark is taken off
//
// Thread-safe. Holds no lock while it copies but the layout locks of one batch.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "base/event.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "failure/mover.h"
#include "failure/recovery.h"

namespace refault::failure {

struct ResyncStatus {
    bool is_running = false;
    std::string path;  // that is worked on
    std::uint64_t files_left = 0;
    std::uint64_t bytes_total = 0;  // to be copied or compared in this round; never falls
    std::uint64_t bytes_done = 0;
    std::uint64_t short_bytes = 0;  // copies that find no place: add a device
};

struct ScrubReport {
    std::uint64_t files = 0;
    std::uint64_t bytes_read = 0;
    std::uint64_t differing_bytes = 0;  // in copies that were made equal to the primary
    std::uint64_t errors = 0;  // ranges that could not be read; the failure pipeline has them
    std::uint64_t lost_bytes = 0;
    bool was_cancelled = false;
};

class Resync {
  public:
    Resync(store::Store& store, session::Registry& registry, session::WriteBarrier& barrier,
           Mover& mover, Recovery& recovery, FailureBook& book, base::EventSink& events);
    // Stops at the next piece.
    ~Resync();
    void start();

    // There may be something to do. Any thread; never waits.
    void kick();
    // Moves that bring old copies on a device that came back up to date; ends them.
    void take_over(std::vector<store::Move> moves);
    ResyncStatus status() const;
    // True when nothing is left to do; waits until then or the deadline.
    bool wait_until_idle(std::chrono::steady_clock::time_point deadline) const;

    // Reads every byte of every copy, compares, repairs. `progress` is called now and then with
    // bytes done and all bytes; false cancels.
    ScrubReport scrub(const std::function<bool(std::uint64_t, std::uint64_t)>& progress);

  private:
    enum class Did { Nothing, Something };
    void run();
    void wait_for_work(bool has_more);
    // One round over all files.
    Did work();
    Did make_copies(base::InodeNo inode);
    // Ends all of them; the bytes that were copied, or found equal.
    std::uint64_t copy_all(std::vector<store::Move>& moves);
    std::uint64_t next_piece(base::InodeNo inode, std::uint64_t offset, std::uint64_t size) const;
    Did make_equal(base::InodeNo inode);
    // Compares one piece of all copies under the barrier and copies what differs from the primary.
    Status equalise(base::InodeNo inode, base::FileRange range, std::uint64_t& differing);
    Status equalise_copy(const store::Extent& primary, const store::Extent& copy,
                         std::uint64_t& differing);
    bool must_stop() const;
    void note_progress(std::uint64_t bytes);

    store::Store& store_;
    session::Registry& registry_;
    session::WriteBarrier& barrier_;
    Mover& mover_;
    Recovery& recovery_;
    FailureBook& book_;
    base::EventSink& events_;
    mutable base::Mutex mutex_;
    mutable base::CondVar changed_;
    bool is_kicked_ GUARDED_BY(mutex_) = false;
    bool must_stop_ GUARDED_BY(mutex_) = false;
    std::vector<store::Move> taken_over_ GUARDED_BY(mutex_);
    ResyncStatus status_ GUARDED_BY(mutex_);
    base::NamedThread thread_;
};

}  // namespace refault::failure
