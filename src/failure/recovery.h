// The pipeline for what failed: lock out -> locate -> zap -> recover -> report. One part of a file
// at a time:
//
//   fence (no places) -> barrier (stores and later touches wait) -> journal -> punch (no page-table
//   entry is left) -> other copy's bytes into the hole, or the other copy takes over, or lost
//     -> lift (pagers fetch what is true now)
//
// Memory that is still there is repaired in place, so that mappings keep their huge pages; where
// the device is gone, or a page fails again and again, the other copy becomes the primary and the
// resync makes a new one elsewhere. Who may have stored into a range since its copies were last
// equal is held back from it (rule 4), unless the file is set to roll back.
//
// Thread-safe; called from the failure service's thread. Holds fences and layout locks as the mover
// does, and waits for no client longer than kPatience.
#pragma once

#include <map>
#include <vector>

#include "base/event.h"
#include "base/mutex.h"
#include "failure/failure_book.h"
#include "failure/mover.h"
#include "session/registry.h"
#include "session/write_barrier.h"
#include "store/store.h"

namespace refault::failure {

// A range of a device that failed so often that it is not used any more.
struct RetiredRange {
    base::DeviceId device;
    base::DeviceRange range;
    std::uint32_t failures = 0;
};

class Recovery {
  public:
    // So many failures of one page and it is retired.
    static constexpr std::uint32_t kRetireAfter = 3;

    Recovery(store::Store& store, session::Registry& registry, session::WriteBarrier& barrier,
             Mover& mover, FailureBook& book)
        : store_(store), registry_(registry), barrier_(barrier), mover_(mover), book_(book) {}

    // A range of a device that stays.
    Status recover_range(base::DeviceId device, base::DeviceRange range, FailureKind kind,
                         std::uint64_t record);
    // All of a device, which leaves the pool's books with that. What it held is promoted, or lost.
    Status recover_device(base::DeviceId device, FailureKind kind, std::uint64_t record);
    // Drops copies that are too many.
    Status drop_surplus(const std::vector<store::Extent>& copies);

    std::vector<RetiredRange> retired() const;

  private:
    class Fenced;
    struct Part {
        store::Extent extent;
        FailureKind kind = FailureKind::Poison;
        bool is_segment_gone = false;  // there is no memory to repair
    };

    Outcome recover_part(const Part& part, FailedPart& report);
    Outcome drop_part(const Part& part, FailedPart& report, bool stays_taken);
    bool repair_in_place(const store::Extent& bad);
    bool is_segment_gone(const store::Extent& extent) const;
    void add_unless_lost(const store::Extent& extent, std::vector<store::Extent>& parts) const;
    Status drop_batch(std::span<const store::Extent> batch, FailureKind kind, std::uint64_t record);
    void hold_back_writers(const store::Extent& primary, base::FileRange range, FailedPart& report);
    FailedPart report_of(const store::Extent& extent) const;
    void notify_early(base::InodeNo inode, base::FileRange range, wire::Answer what);
    // Counts a failure of the range's pages; true when one of them has failed too often.
    bool count_failure(base::DeviceId device, base::DeviceRange range);
    void zap(const store::Extent& extent);
    void zap_laggards(std::span<const store::Extent> batch);
    Status settle_device(base::DeviceId id);

    store::Store& store_;
    session::Registry& registry_;
    session::WriteBarrier& barrier_;
    Mover& mover_;
    FailureBook& book_;
    std::chrono::steady_clock::time_point laggards_until_;  // of the caller's thread
    mutable base::Mutex mutex_;
    std::map<std::pair<base::DeviceId, std::uint64_t>, std::uint32_t> failures_ GUARDED_BY(mutex_);
    std::vector<RetiredRange> retired_ GUARDED_BY(mutex_);
};

}  // namespace refault::failure
