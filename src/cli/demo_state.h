// What the demo's client processes tell their parent, and what it tells them: one shared
// page-aligned block of atomics, in a memfd that the children inherit. Every field has one writer.
#pragma once

#include <atomic>
#include <cstdint>

namespace refault::cli {

inline constexpr std::size_t kDemoClients = 4;
inline constexpr std::uint64_t kRecordBytes = 4096;
// Of lost ranges, and of places where a process was held back, so many can be told.
inline constexpr std::size_t kDemoRangesMax = 256;

// What the parent does at the moment; a pause counts for it.
enum class DemoPhase : std::uint32_t { Quiet, Pull, Loss };
inline constexpr std::size_t kDemoPhases = 3;

// Records [first, end) of a file.
struct DemoRange {
    std::atomic<std::uint64_t> first{0};
    std::atomic<std::uint64_t> end{0};
};

struct alignas(64) DemoClientState {
    std::atomic<std::uint32_t> is_running{0};    // all records were written once
    std::atomic<std::uint32_t> has_finished{0};  // the last verification is over
    std::atomic<std::uint32_t> surveys_done{0};
    std::atomic<std::uint32_t> has_punched{0};
    std::atomic<std::uint64_t> writes{0};
    std::atomic<std::uint64_t> reads{0};
    std::atomic<std::uint64_t> worst_pause_ns[kDemoPhases]{};  // longest single record operation
    std::atomic<std::uint64_t> bad_records{0};
    std::atomic<std::uint64_t> verified_records{0};  // by the last survey
    std::atomic<std::uint64_t> address_first{0};
    std::atomic<std::uint64_t> address_last{0};
    std::atomic<std::uint32_t> signals{0};       // that nothing explains; the first one ends it
    std::atomic<std::uint64_t> loss_signals{0};  // SIGBUS as refault.h promises it, where touched
    std::atomic<std::uint64_t> lost_records{0};  // since the start
    std::atomic<std::uint64_t> lost_count{0};    // of `lost`, by the last survey before the punch
    DemoRange lost[kDemoRangesMax];
    std::atomic<std::uint64_t> held_count{0};  // times held back; each time it accepted
    std::atomic<std::uint64_t> held_records[kDemoRangesMax]{};  // where
    std::atomic<std::uint64_t> rolled_back{0};  // stores of before a loss that had to be repeated
    std::atomic<std::int32_t> error{0};         // a negative errno of the library
};

struct DemoState {
    std::atomic<DemoPhase> phase{DemoPhase::Quiet};
    std::atomic<std::uint32_t> surveys_wanted{0};  // rounds of verifying every record
    std::atomic<std::uint32_t> must_punch{0};      // what is lost is given up and written anew
    std::atomic<std::uint32_t> must_stop{0};
    DemoClientState clients[kDemoClients];
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free,
              "the block is shared between processes");

}  // namespace refault::cli
