// What the demo's client processes tell their parent: one shared page-aligned block of atomics, in
// a memfd that the children inherit. Every field has one writer.
#pragma once

#include <atomic>
#include <cstdint>

namespace refault::cli {

inline constexpr std::size_t kDemoClients = 4;
inline constexpr std::uint64_t kRecordBytes = 4096;

struct alignas(64) DemoClientState {
    std::atomic<std::uint32_t> is_running{0};    // all records were written once
    std::atomic<std::uint32_t> has_finished{0};  // the last verification is over
    std::atomic<std::uint64_t> writes{0};
    std::atomic<std::uint64_t> reads{0};
    std::atomic<std::uint64_t> worst_pause_ns{0};  // longest single record operation
    std::atomic<std::uint64_t> worst_pause_before_ns{
        0};  // the same, before the parent set is_pulling
    std::atomic<std::uint64_t> bad_records{0};
    std::atomic<std::uint64_t> verified_records{0};
    std::atomic<std::uint64_t> address_first{0};
    std::atomic<std::uint64_t> address_last{0};
    std::atomic<std::uint32_t> signals{0};
    std::atomic<std::int32_t> error{0};  // a negative errno of the library
};

struct DemoState {
    std::atomic<std::uint32_t> is_pulling{0};
    std::atomic<std::uint32_t> must_stop{0};
    DemoClientState clients[kDemoClients];
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free,
              "the block is shared between processes");

}  // namespace refault::cli
