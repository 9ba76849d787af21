// The copies of one writable mapping, as the library persists to them. Replica r is mapped
// r * stride behind the program's own addresses; which pages of it are there is kept in bits.
//
//   primary    [stores of the program ......)
//   replica 1  [======)          [==========)     persist copies what is there; the daemon knows
//                                                 that the rest has fewer copies
//
// The pager sets and clears bits and maps; it allocates nothing here. persist() may come from any
// thread. Two threads that persist the same bytes are kept apart, so that the older copy of one
// never comes to lie over the newer of the other; against another process each compares what it has
// copied with the primary once more.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "base/range.h"
#include "base/result.h"
#include "wire/message.h"

namespace refault::client {

class Mirrors {
  public:
    Mirrors(std::uint64_t address, std::uint64_t length);

    // ---- the pager. `at`: addresses inside of the replica's region; replica from 1 on.
    void set_present(std::uint32_t replica, base::AddressRange at);
    // Before the memory goes.
    void clear_present(std::uint32_t replica, base::AddressRange at);
    // What the program's own addresses show from now on: where nothing is to be had, nothing can be
    // persisted either, however many copies there are.
    void note_primary(base::AddressRange at, wire::PlaceKind kind);
    void note_sync_needed() noexcept { needs_sync_.store(true, std::memory_order_relaxed); }

    // What note_primary said is held back, in bytes from the beginning of the mapping; the first
    // `max` parts.
    std::vector<wire::Remap::Part> held_parts(std::size_t max) const;

    // Of so many replicas, the primary included, there have been places.
    std::uint8_t placed_replicas() const noexcept { return placed_replicas_.load(); }

    // Copies [offset, offset + length) to every copy that is there and makes it durable. Io, or
    // Stale (as Busy with ESTALE), when the primary itself is lost or held back there.
    base::Status persist(std::uint64_t offset, std::uint64_t length);

    std::uint64_t region(std::uint32_t replica) const noexcept {
        return address_ + replica * wire::mirror_stride(length_);
    }

  private:
    static constexpr std::size_t kReplicas = wire::kReplicasMax - 1;
    static constexpr std::uint64_t kChunkBytes = 64 * 1024;
    static constexpr std::size_t kStripes = 16;

    using Words = std::vector<std::atomic<std::uint64_t>>;
    // Sets or clears the bits of some pages; returns how many have changed.
    static std::uint64_t change(Words& words, std::uint64_t first, std::uint64_t pages, bool set);
    void change(std::uint32_t replica, base::AddressRange at, bool present);
    base::Status check_primary(std::uint64_t begin, std::uint64_t end) const;
    bool has_page(std::uint32_t replica, std::uint64_t page) const noexcept;
    base::Status persist_chunk(std::uint64_t begin, std::uint64_t end);
    base::Status copy_run(std::uint32_t replica, std::uint64_t begin, std::uint64_t end);
    base::Status sync(std::uint64_t begin, std::uint64_t end);

    const std::uint64_t address_;
    const std::uint64_t length_;
    std::array<Words, kReplicas> present_;
    std::array<std::atomic<std::uint64_t>, kReplicas> present_pages_{};
    std::atomic<std::uint8_t> placed_replicas_{1};
    Words lost_;
    Words stale_;
    std::atomic<std::uint64_t> withheld_pages_{0};  // lost or stale
    std::atomic<bool> needs_sync_{false};
    struct Stripe {
        base::Mutex mutex{base::LockRank::ClientStripe};
    };
    std::array<Stripe, kStripes> stripes_;
};

}  // namespace refault::client
