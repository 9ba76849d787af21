// What failed, what it cost, who was told, and how long each step took: the record behind
// `refault lost`, the events and the histograms. Thread-safe; a leaf lock; keeps the newest
// records.
//
//   noticed --- all mappings unmapped --- first signal ... last signal --- repaired --- proven
//      0            unmapped_ms             signals                        repaired_ms   proven_ms
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/event.h"
#include "base/mutex.h"
#include "base/range_set.h"
#include "store/types.h"

namespace refault::failure {

using store::FailureKind;

std::string_view kind_name(FailureKind kind) noexcept;  // "poison", "surprise-removal", ...
std::optional<FailureKind> kind_of(std::string_view name) noexcept;

// What became of one part of a file.
enum class Outcome {
    Repaired,     // in place, from another copy
    Promoted,     // another copy serves now; one more is made in the background
    CopyDropped,  // a second copy was there; the primary goes on
    Lost,         // no copy is left
    Metadata,     // the pool's own; written anew from memory
};
std::string_view outcome_name(Outcome outcome) noexcept;

struct FailedPart {
    base::InodeNo inode;             // none for metadata
    std::vector<std::string> paths;  // all names of the file; none of one without a name
    base::FileRange file_range;
    std::uint32_t replica = 0;
    base::DeviceRange device_range;
    Outcome outcome = Outcome::Lost;
    bool was_open = false;
    bool may_be_older = false;          // the copy that serves now may lack stores
    std::vector<pid_t> spanning;        // map the range
    std::vector<pid_t> suspended;       // may have stored what the copy lacks
    std::vector<base::FileRange> lost;  // of file_range, by this failure and no earlier one

    std::string path() const { return paths.empty() ? "(unlinked)" : paths.front(); }
};

struct Signalled {
    pid_t pid = 0;
    base::InodeNo inode;
    base::FileRange file_range;
    std::uint64_t address = 0;
    std::string why;  // "lost", "stale", "notice"
    double at_ms = 0;
};

struct FailureRecord {
    std::uint64_t number = 0;
    std::string device;
    base::DeviceRange range;
    FailureKind kind = FailureKind::Poison;
    std::uint64_t noticed_ns = 0;  // since the epoch
    double unmapped_ms = -1;       // since it was noticed; negative: not yet
    double repaired_ms = -1;       // all copies that can be made again are there; never, where all
                                   // of it is lost
    double proven_ms = -1;         // of a whole device: nobody maps it
    std::vector<FailedPart> parts;
    std::uint64_t parts_left_out = 0;  // beyond the number that is kept
    std::vector<Signalled> signalled;
};

// Times in classes of a factor of four: <= 0.25 ms, 1, 4, 16, 64, 256, 1024, more.
struct Histogram {
    static constexpr std::array<double, 7> kBoundsMs{0.25, 1, 4, 16, 64, 256, 1024};
    std::array<std::uint64_t, kBoundsMs.size() + 1> counts{};
    std::uint64_t total = 0;
    double sum_ms = 0;
    void add(double ms);
};

struct Windows {
    Histogram unmapped;
    Histogram first_signal;
    Histogram last_signal;
    Histogram repaired;
    Histogram proven;
};

class FailureBook {
  public:
    explicit FailureBook(base::EventSink& events) : events_(events) {}

    // Opens a record and says so; returns its number.
    std::uint64_t open(
        const std::string& device, base::DeviceRange range, FailureKind kind,
        std::chrono::steady_clock::time_point noticed = std::chrono::steady_clock::now());
    void add_part(std::uint64_t number, FailedPart part);
    // Every copy of the pool's metadata is lost: nothing can be changed any more.
    void metadata_lost(const std::string& reason);
    // A part of it is in no page table any more; the last of them counts.
    void part_unmapped(std::uint64_t number);
    // All of it is not.
    void unmapped(std::uint64_t number);
    void repaired(std::uint64_t number);
    // The same, when every part was repaired in place; false, and nothing done, when not.
    bool close_if_repaired(std::uint64_t number);
    // A copy beside the primary was repaired in place.
    bool has_repaired_copy(std::uint64_t number);
    void proven(std::uint64_t number);
    // A process was told: noted on every record that has the range of the file.
    void signalled(base::InodeNo inode, base::FileRange range, pid_t pid, std::uint64_t address,
                   const std::string& why);
    // Who was told that bytes of this range are lost, since they were.
    std::vector<pid_t> told(base::InodeNo inode, base::FileRange range) const;
    // Every record of which the repair is not done is repaired now.
    void all_repaired();

    std::vector<FailureRecord> records() const;
    Windows windows() const;

  private:
    struct Kept {
        FailureRecord record;
        std::chrono::steady_clock::time_point since;
        double part_unmapped_ms = -1;
    };
    static bool has_repair(const FailureRecord& record);
    static void add_signals(const FailureRecord& record, Windows& windows);
    std::string device_of(std::uint64_t number);
    Kept* find_locked(std::uint64_t number) REQUIRES(mutex_);
    static double ms_since(std::chrono::steady_clock::time_point since);

    base::EventSink& events_;
    mutable base::Mutex mutex_;
    std::uint64_t next_ GUARDED_BY(mutex_) = 1;
    std::deque<Kept> kept_ GUARDED_BY(mutex_);
    // Apart from the records, which are limited in number and each about many ranges.
    std::map<base::InodeNo, std::map<pid_t, base::RangeSet>> told_ GUARDED_BY(mutex_);
    Windows windows_ GUARDED_BY(mutex_);
};

}  // namespace refault::failure
