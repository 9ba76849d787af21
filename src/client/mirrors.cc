// Copying to the copies.
#include "client/mirrors.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "client/guard.h"

namespace refault::client {

using base::Code;
using base::Error;
using base::kPageBytes;
using base::Status;

namespace {

// A program that goes on storing while it persists cannot be caught up with.
constexpr int kComparesMax = 8;
// Copied and compared in turn: both sides are still in the first cache when they are compared.
constexpr std::size_t kBlockBytes = 8 * 1024;

void copy_and_compare(std::byte* to, const std::byte* from, std::size_t length) {
    while (length > 0) {
        const auto block = std::min(length, kBlockBytes);
        std::memcpy(to, from, block);
        for (int i = 0; i < kComparesMax && std::memcmp(to, from, block) != 0; ++i)
            std::memcpy(to, from, block);
        to += block;
        from += block;
        length -= block;
    }
}

void* pointer(std::uint64_t address) {
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}

Status lost_error(wire::Answer answer) {
    if (answer == wire::Answer::Stale)
        return Error(Code::Busy,
                     "the copy of these bytes may be older than what was stored; see rf_accept",
                     ESTALE);
    return Error(Code::Io, "these bytes are lost; see: refault lost", EIO);
}

}  // namespace

Mirrors::Mirrors(std::uint64_t address, std::uint64_t length) : address_(address), length_(length) {
    const auto words = (length / kPageBytes + 63) / 64;
    for (auto& present : present_) present = Words(words);
    lost_ = Words(words);
    stale_ = Words(words);
}

void Mirrors::set_present(std::uint32_t replica, base::AddressRange at) {
    if (placed_replicas_.load() <= replica)
        placed_replicas_.store(static_cast<std::uint8_t>(replica + 1));
    change(replica, at, true);
}

void Mirrors::clear_present(std::uint32_t replica, base::AddressRange at) {
    change(replica, at, false);
}

std::uint64_t Mirrors::change(Words& words, std::uint64_t first, std::uint64_t pages, bool set) {
    std::uint64_t changed = 0;
    for (auto page = first; page < first + pages; ++page) {
        const auto bit = std::uint64_t{1} << (page % 64);
        auto& word = words[page / 64];
        const auto before = set ? word.fetch_or(bit) : word.fetch_and(~bit);
        if (((before & bit) != 0) != set) ++changed;
    }
    return changed;
}

void Mirrors::change(std::uint32_t replica, base::AddressRange at, bool present) {
    const auto first = (at.begin() - region(replica)) / kPageBytes;
    const auto changed = change(present_[replica - 1], first, at.length() / kPageBytes, present);
    if (present)
        present_pages_[replica - 1] += changed;
    else
        present_pages_[replica - 1] -= changed;
}

void Mirrors::note_primary(base::AddressRange at, wire::PlaceKind kind) {
    const auto first = (at.begin() - address_) / kPageBytes;
    const auto note = [&](Words& words, bool set) {
        const auto changed = change(words, first, at.length() / kPageBytes, set);
        if (set)
            withheld_pages_ += changed;
        else
            withheld_pages_ -= changed;
    };
    note(lost_, kind == wire::PlaceKind::Lost);
    note(stale_, kind == wire::PlaceKind::Stale);
}

std::vector<wire::Remap::Part> Mirrors::held_parts(std::size_t max) const {
    std::vector<wire::Remap::Part> parts;
    if (withheld_pages_.load() == 0) return parts;
    for (std::uint64_t page = 0; page * kPageBytes < length_; ++page) {
        if ((stale_[page / 64].load() >> (page % 64) & 1) == 0) continue;
        const auto offset = page * kPageBytes;
        if (!parts.empty() && parts.back().offset + parts.back().length == offset)
            parts.back().length += kPageBytes;
        else if (parts.size() < max)
            parts.push_back({offset, kPageBytes});
        else
            // Held back too much rather than too little.
            parts.back().length = offset + kPageBytes - parts.back().offset;
    }
    return parts;
}

bool Mirrors::has_page(std::uint32_t replica, std::uint64_t page) const noexcept {
    return (present_[replica - 1][page / 64].load() >> (page % 64) & 1) != 0;
}

Status Mirrors::check_primary(std::uint64_t begin, std::uint64_t end) const {
    if (withheld_pages_.load() == 0) return {};
    for (auto page = begin / kPageBytes; page * kPageBytes < end; ++page) {
        const auto bit = std::uint64_t{1} << (page % 64);
        if ((lost_[page / 64].load() & bit) != 0) return lost_error(wire::Answer::Lost);
        if ((stale_[page / 64].load() & bit) != 0) return lost_error(wire::Answer::Stale);
    }
    return {};
}

Status Mirrors::persist(std::uint64_t offset, std::uint64_t length) {
    if (length == 0) return {};
    const auto end = offset + length;
    RETURN_IF_ERROR(check_primary(offset, end));
    const bool has_copies = std::any_of(present_pages_.begin(), present_pages_.end(),
                                        [](const auto& pages) { return pages.load() > 0; });
    for (auto at = offset; has_copies && at < end;) {
        const auto next = std::min(end, base::align_down(at, kChunkBytes) + kChunkBytes);
        base::MutexLock lock(stripes_[at / kChunkBytes % kStripes].mutex);
        RETURN_IF_ERROR(persist_chunk(at, next));
        at = next;
    }
    return needs_sync_.load(std::memory_order_relaxed) ? sync(offset, end) : Status();
}

Status Mirrors::persist_chunk(std::uint64_t begin, std::uint64_t end) {
    for (std::uint32_t replica = 1; replica <= kReplicas; ++replica) {
        if (present_pages_[replica - 1].load() == 0) continue;
        // Runs of pages that are there:   |==|==|  |==|
        for (auto at = begin; at < end;) {
            const auto page_end = [](std::uint64_t where) {
                return base::align_down(where, kPageBytes) + kPageBytes;
            };
            if (!has_page(replica, at / kPageBytes)) {
                at = std::min(end, page_end(at));
                continue;
            }
            auto run_end = std::min(end, page_end(at));
            while (run_end < end && has_page(replica, run_end / kPageBytes))
                run_end = std::min(end, page_end(run_end));
            RETURN_IF_ERROR(copy_run(replica, at, run_end));
            at = run_end;
        }
    }
    return {};
}

// The memory on either side may go while it is copied. A copy that is gone is no failure: the
// daemon has counted it out before it answered.
Status Mirrors::copy_run(std::uint32_t replica, std::uint64_t begin, std::uint64_t end) {
    const auto* const from = static_cast<const std::byte*>(pointer(address_ + begin));
    auto* const to = static_cast<std::byte*>(pointer(region(replica) + begin));
    Guard guard;
    if (sigsetjmp(guard.jump, 0) != 0) {
        guard.leave();
        const auto hit = guard.hit.address;
        const bool is_primary = hit >= address_ && hit < address_ + length_;
        if (is_primary) return lost_error(guard.hit.answer);
        return {};
    }
    guard.enter();
    copy_and_compare(to, from, end - begin);
    guard.leave();
    return {};
}

Status Mirrors::sync(std::uint64_t begin, std::uint64_t end) {
    const auto first = base::align_down(begin, kPageBytes);
    if (::msync(pointer(address_ + first), end - first, MS_SYNC) != 0)
        return base::sys_error("msync");
    for (std::uint32_t replica = 1; replica <= kReplicas; ++replica)
        if (present_pages_[replica - 1].load() > 0 &&
            ::msync(pointer(region(replica) + first), end - first, MS_SYNC) != 0 && errno != ENOMEM)
            return base::sys_error("msync of a copy");
    return {};
}

}  // namespace refault::client
