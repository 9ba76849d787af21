// The registry's part in tracking stores: which regions are clean, and what ends that.
//
//   not known  --protected, and the copies are equal-->  clean
//       ^                                                  |
//       +--- a store waits, and goes on; or any fence -----+
#include <algorithm>

#include "session/mapping.h"
#include "session/registry.h"
#include "sys/userfaultfd.h"

namespace refault::session {

using base::MutexLock;

namespace {

// The region of a mapping, counted from its beginning, which is aligned for huge pages.
FileRange region_at(FileRange mapped, std::uint64_t file_offset) {
    const auto begin =
        mapped.begin() + base::align_down(file_offset - mapped.begin(), Registry::kRegionBytes);
    return {begin, std::min(begin + Registry::kRegionBytes, mapped.end())};
}

// A region of several places may have one that was mapped anew since and is not protected any more:
// the call ends there, and wakes nobody.
void let_store(const Session& session, AddressRange region, AddressRange page) {
    const int fd = session.userfaultfd();
    if (sys::userfaultfd_lift_write_protect(fd, region)) return;
    base::discard(sys::userfaultfd_lift_write_protect(fd, page),
                  "a process that is gone, or has unmapped it, stores nothing");
    base::discard(sys::userfaultfd_wake(fd, page), "as above");
}

}  // namespace

void Registry::wake_stores_locked(InodeNo inode, FileRange range) const {
    const auto [first, last] = by_inode_.equal_range(inode);
    for (auto at = first; at != last; ++at) {
        const Mapping& mapping = *at->second;
        const auto part = mapping.file_range.intersect(range);
        if (mapping.layers.size() < 2 || !mapping.layers[1].is_used || part.empty()) continue;
        base::discard(
            sys::userfaultfd_wake(mapping.session->userfaultfd(), mapping.addresses_of(part)),
            "the process may be gone");
    }
}

bool Registry::is_held_locked(InodeNo inode, FileRange range) const {
    return std::any_of(held_stores_.begin(), held_stores_.end(), [&](const Fence& held) {
        return held.inode == inode && held.range.overlaps(range);
    });
}

void Registry::hold_stores(InodeNo inode, FileRange range) {
    MutexLock lock(mutex_);
    held_stores_.push_back({inode, range});
}

void Registry::release_stores(InodeNo inode, FileRange range) {
    MutexLock lock(mutex_);
    const auto at = std::find_if(held_stores_.begin(), held_stores_.end(), [&](const Fence& held) {
        return held.inode == inode && held.range == range;
    });
    CHECK(at != held_stores_.end());
    held_stores_.erase(at);
    wake_stores_locked(inode, range);
}

std::vector<Registry::Region> Registry::unclean_regions(std::size_t max, Cursor& cursor) const {
    std::vector<Region> regions;
    MutexLock lock(mutex_);
    auto at = mappings_.lower_bound(cursor.mapping);
    if (at != mappings_.end() && at->first != cursor.mapping) cursor.offset = 0;
    for (; at != mappings_.end(); ++at, cursor.offset = 0) {
        const Mapping& mapping = *at->second;
        const bool is_tracked = mapping.layers.size() > 1 && mapping.layers[1].is_used &&
                                mapping.session->handles_kernel_faults();
        const auto whole = mapping.file_range;
        for (auto begin = whole.begin() + cursor.offset; is_tracked && begin < whole.end();) {
            if (regions.size() == max) {
                cursor = {at->first, begin - whole.begin()};
                return regions;
            }
            const auto range = region_at(whole, begin);
            begin = range.end();
            if (mapping.clean.gaps(range).empty() || mapping.lags(range) ||
                mapping.suspended.overlaps(range) || is_fenced_locked(mapping.inode, range) ||
                is_held_locked(mapping.inode, range))
                continue;
            regions.push_back(
                {mapping.session, mapping.id, mapping.inode, range, mapping.addresses_of(range)});
        }
    }
    cursor = {};
    return regions;
}

bool Registry::is_settled(const Region& region) const {
    MutexLock lock(mutex_);
    return find_settled_locked(region) != nullptr;
}

bool Registry::mark_clean(const Region& region) {
    MutexLock lock(mutex_);
    auto* const mapping = find_settled_locked(region);
    if (mapping == nullptr) return false;
    mapping->clean.add(region.range);
    return true;
}

Registry::Mapping* Registry::find_settled_locked(const Region& region) const {
    const auto at = mappings_.find(region.mapping);
    if (at == mappings_.end() || at->second->lags(region.range) ||
        at->second->suspended.overlaps(region.range))
        return nullptr;
    return at->second.get();
}

void Registry::stored(const std::shared_ptr<Session>& session, std::uint64_t address) {
    // Over the system call, too: a fence that is taken after the look must find its protection
    // kept.
    MutexLock lock(mutex_);
    for (const auto& [id, mapping] : mappings_) {
        std::uint64_t offset = 0;
        std::uint32_t replica = 0;
        if (mapping->session != session || !mapping->find(address, offset, replica)) continue;
        if (replica != 0) return;
        const auto page =
            FileRange::of_length(base::align_down(offset, base::kPageBytes), base::kPageBytes);
        if (is_fenced_locked(mapping->inode, page) || is_held_locked(mapping->inode, page)) return;
        // What is mapped there may be an old place, shut by a daemon that is gone. Who waits is
        // woken when it is placed anew.
        if (mapping->layers[0].lags(page)) return;
        const auto region = region_at(mapping->file_range, offset);
        const bool was_clean = mapping->clean.overlaps(region);
        mapping->clean.subtract(region);
        RangeSet held;
        for (const auto& other : held_stores_)
            if (other.inode == mapping->inode) held.add(other.range);
        for (const auto unfenced : unfenced_locked(mapping->inode, region))
            for (const auto open : held.gaps(unfenced))
                let_store(*session, mapping->addresses_of(open), mapping->addresses_of(page));
        // Protecting has cut huge pages into small ones; mapped anew they are huge again.
        if (was_clean) {
            mapping->mark_stale(region, layer_mask(0));
            session->ring();
        }
        return;
    }
}

}  // namespace refault::session
