// Finds out which parts of writable mappings are equal on all copies, and has the kernel tell of
// the first store after that: so that the loss of a primary holds back from a program only what it
// may have stored and not persisted.
//
// One thread, "tracker". It compares the primary with the copies by pread, first as it is, and when
// they are equal once more under write protection; if they are equal then, the region is clean. A
// region that is not equal is looked at again at growing intervals, beginning with the page that
// differed; one that is stored into again and again, too. Granularity: regions of 2 MiB of a
// mapping; time: kInterval after a persist, longer for what has just been stored into and for large
// mappings.
//
// Why not PAGEMAP_SCAN with asynchronous write protection: the kernel keeps its answer in the page
// tables, and those are gone together with the memory whose loss raises the question.
#pragma once

#include <chrono>
#include <map>
#include <optional>

#include "base/mutex.h"
#include "base/thread.h"
#include "failure/fault_points.h"
#include "session/registry.h"
#include "store/store.h"

namespace refault::failure {

class StoreTracker {
  public:
    static constexpr std::chrono::milliseconds kInterval{20};

    StoreTracker(store::Store& store, session::Registry& registry, FaultPoints& faults)
        : store_(store), registry_(registry), faults_(faults) {}
    ~StoreTracker();
    void start();

  private:
    using Clock = std::chrono::steady_clock;
    struct Attempt {
        Clock::time_point next;
        std::chrono::milliseconds pause{0};
        std::optional<std::uint64_t> differs_at;  // file offset of a page
        Clock::time_point seen;
    };
    void run();
    // Bounded work; see kBytesPerRound.
    void round();
    // What copies took over is remembered by the journal until those who may have stored there
    // know.
    void forget_what_was_told();
    void try_region(const session::Registry::Region& region, Attempt& attempt);
    bool protect_and_compare(const session::Registry::Region& region);
    // Nothing: equal. A byte without a second copy counts as different.
    std::optional<std::uint64_t> first_difference(base::InodeNo inode, base::FileRange range);

    store::Store& store_;
    session::Registry& registry_;
    FaultPoints& faults_;
    session::Registry::Cursor cursor_;                                       // the thread's own
    std::map<std::pair<base::MappingId, std::uint64_t>, Attempt> attempts_;  // the thread's own
    std::uint64_t budget_bytes_ = 0;                                         // the thread's own
    base::Mutex mutex_;
    base::CondVar changed_;
    bool must_stop_ GUARDED_BY(mutex_) = false;
    base::NamedThread thread_;
};

}  // namespace refault::failure
