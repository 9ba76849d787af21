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
// Thread-safe but for the recovery of failures, of which the failure service sees to it that there
// is one at a time. Holds fences and layout locks as the mover does, and waits for no client longer
// than kPatience.
#pragma once

#include <map>
#include <unordered_map>
#include <vector>

#include "base/event.h"
#include "base/mutex.h"
#include "failure/failure_book.h"
#include "failure/fault_points.h"
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
             Mover& mover, FailureBook& book, FaultPoints& faults)
        : store_(store),
          registry_(registry),
          barrier_(barrier),
          mover_(mover),
          book_(book),
          faults_(faults) {}

    // Ranges of a device that stays. What could not be dealt with now (another operation holds it,
    // the journal takes nothing) is left in `ranges`, and the error says why: the caller tries that
    // again, and that alone, for what is repaired has new stores by then.
    Status recover_ranges(base::DeviceId device, std::vector<base::DeviceRange>& ranges,
                          FailureKind kind, std::uint64_t record);
    // All of a device, which leaves the pool's books with that. What it held is promoted, or lost.
    // After an error it is called again for the rest; NoSpace: the only copy of the metadata went
    // with it.
    Status recover_device(base::DeviceId device, FailureKind kind, std::uint64_t record);
    // Drops copies that are too many.
    Status drop_surplus(const std::vector<store::Extent>& copies);

    std::vector<RetiredRange> retired() const;
    // True when one of the range's pages has failed too often, with this time.
    bool is_worn_out(base::DeviceId device, base::DeviceRange range) const;

  private:
    class Fenced;
    struct Part {
        store::Extent extent;
        FailureKind kind = FailureKind::Poison;
        std::uint64_t record = 0;
    };

    Status recover_range(base::DeviceId device, base::DeviceRange range, FailureKind kind,
                         std::uint64_t record, std::vector<base::DeviceRange>& left);
    Status recover_extent(const store::Extent& extent, FailureKind kind, std::uint64_t record);
    Status recover_metadata(base::DeviceRange range, std::uint64_t record);
    // Sets the report's outcome.
    // is_to_split: nothing was done, because some of its pages have no copy that can be read.
    Status recover_part(const Part& part, FailedPart& report, bool& is_to_split);
    // False when it was no part of its file any more, or was to stay after all.
    Result<bool> drop_part(const Part& part, FailedPart& report, bool stays_taken);
    Result<bool> repair_in_place(const store::Extent& bad, std::span<const store::Extent> copies,
                                 std::optional<std::vector<std::uint8_t>>& bytes,
                                 std::uint64_t record);
    std::optional<std::vector<std::uint8_t>> bytes_of_copies(
        const store::Extent& bad, std::span<const store::Extent> copies) const;
    // What of the extent is there still. Who holds its file's layout lock may rely on it; before
    // that a program may have punched or cut the range, and its memory may be another file's by
    // now.
    std::vector<store::Extent> held_parts(const store::Extent& extent) const;
    bool is_held(const store::Extent& extent) const;
    Status recover_pages(const store::Extent& extent, FailureKind kind, std::uint64_t record);
    bool may_be_older(base::InodeNo inode, const FailedPart& report) const;
    // There is no memory to repair: the segment's file is gone, or was cut there.
    bool is_memory_gone(const store::Extent& extent) const;
    void add_unless_lost(const store::Extent& extent, std::vector<store::Extent>& parts) const;
    bool has_extents(base::DeviceId device) const;
    Status drop_all_parts(base::DeviceId device, base::DeviceRange all, FailureKind kind,
                          std::uint64_t record);
    Status drop_batch(std::span<const store::Extent> batch, FailureKind kind, std::uint64_t record);
    void hold_back_writers(const store::Extent& primary, base::FileRange range, FailedPart& report);
    void describe(const store::Extent& extent, FailedPart& report) const;
    void notify_early(base::InodeNo inode, base::FileRange range, wire::Answer what);
    void count_failure(base::DeviceId device, base::DeviceRange range);
    void zap(const store::Extent& extent);
    void zap_laggards(std::span<const store::Extent> batch);
    Status settle_device(base::DeviceId id);

    store::Store& store_;
    session::Registry& registry_;
    session::WriteBarrier& barrier_;
    Mover& mover_;
    FailureBook& book_;
    FaultPoints& faults_;
    std::chrono::steady_clock::time_point laggards_until_;
    mutable base::Mutex mutex_;
    // Of each page, by its offset in the device.
    std::map<base::DeviceId, std::unordered_map<std::uint64_t, std::uint32_t>> failures_
        GUARDED_BY(mutex_);
    std::vector<RetiredRange> retired_ GUARDED_BY(mutex_);
};

}  // namespace refault::failure
