// The registry's part in a loss: who spans a range, who is held back from it, who touched it.
#include <algorithm>

#include "session/mapping.h"
#include "session/registry.h"

namespace refault::session {

using base::Code;
using base::Error;
using base::MutexLock;

std::vector<Registry::Spanning> Registry::spanning(InodeNo inode, FileRange range) const {
    MutexLock lock(mutex_);
    std::vector<Spanning> all;
    const auto [first, last] = by_inode_.equal_range(inode);
    for (auto at = first; at != last; ++at) {
        const Mapping& mapping = *at->second;
        const auto part = mapping.file_range.intersect(range);
        if (!part.empty())
            all.push_back(
                {mapping.session, mapping.id, part, mapping.addresses_of(part), mapping.access});
    }
    return all;
}

std::vector<Registry::Spanning> Registry::suspend(InodeNo inode, FileRange range) {
    MutexLock lock(mutex_);
    std::vector<Spanning> held;
    const auto [first, last] = by_inode_.equal_range(inode);
    for (auto at = first; at != last; ++at) {
        Mapping& mapping = *at->second;
        if (mapping.access != base::Access::ReadWrite) continue;
        for (const auto part : mapping.clean.gaps(mapping.file_range.intersect(range))) {
            mapping.suspended.add(part);
            mapping.mark_stale(part, layer_mask(0));
            held.push_back(
                {mapping.session, mapping.id, part, mapping.addresses_of(part), mapping.access});
        }
    }
    return held;
}

std::size_t Registry::held_parts_locked(SessionId session) const {
    std::size_t parts = 0;
    for (const auto& [id, mapping] : mappings_)
        if (mapping->session->id() == session) parts += mapping->suspended.parts().size();
    return parts;
}

std::size_t Registry::held_parts(SessionId session) const {
    MutexLock lock(mutex_);
    return held_parts_locked(session);
}

Status Registry::accept(SessionId session, MappingId id, std::uint64_t offset, std::uint64_t length,
                        std::size_t parts_max) {
    MutexLock lock(mutex_);
    const auto at = mappings_.find(id);
    if (at == mappings_.end() || at->second->session->id() != session)
        return Error(Code::NotFound, "no such mapping in this session");
    Mapping& mapping = *at->second;
    const auto bytes = mapping.file_range.length();
    if (offset > bytes || length > bytes - offset || !base::is_aligned(offset, base::kPageBytes) ||
        !base::is_aligned(length, base::kPageBytes))
        return Error(Code::Invalid, "accept whole pages inside of the mapping");
    const auto range = FileRange::of_length(mapping.file_range.begin() + offset, length);
    // Out of the middle of one part: that leaves one more.
    const auto held = mapping.suspended.parts(range);
    const bool splits = held.size() == 1 && held.front() == range && offset > 0 &&
                        mapping.suspended.overlaps(FileRange(range.begin() - 1, range.begin())) &&
                        mapping.suspended.overlaps(FileRange(range.end(), range.end() + 1));
    if (splits && held_parts_locked(session) >= parts_max)
        return Error(Code::NoSpace,
                     "what is held back would be in too many parts; accept longer ranges");
    for (const auto part : held) mapping.mark_stale(part, layer_mask(0));
    mapping.suspended.subtract(range);
    if (mapping.lags(range)) mapping.session->ring();
    return {};
}

void Registry::end_suspension(InodeNo inode, FileRange range) {
    MutexLock lock(mutex_);
    const auto [first, last] = by_inode_.equal_range(inode);
    for (auto at = first; at != last; ++at) {
        Mapping& mapping = *at->second;
        const auto held = mapping.suspended.parts(range);
        for (const auto part : held) mapping.mark_stale(part, layer_mask(0));
        mapping.suspended.subtract(range);
        if (!held.empty()) mapping.session->ring();
    }
}

std::optional<Registry::Touched> Registry::find_touched(SessionId session,
                                                        std::uint64_t address) const {
    MutexLock lock(mutex_);
    for (const auto& [id, mapping] : mappings_) {
        if (mapping->session->id() != session) continue;
        std::uint64_t offset = 0;
        Touched touched;
        if (!mapping->find(address, offset, touched.replica)) continue;
        touched.mapping = id;
        touched.inode = mapping->inode;
        touched.page =
            FileRange::of_length(base::align_down(offset, base::kPageBytes), base::kPageBytes);
        touched.addresses = mapping->addresses_of(touched.page, touched.replica);
        touched.is_suspended = touched.replica == 0 && mapping->suspended.overlaps(touched.page);
        touched.lags = mapping->layers[touched.replica].lags(touched.page) ||
                       is_fenced_locked(mapping->inode, touched.page);
        touched.is_beyond =
            std::any_of(concealed_.begin(), concealed_.end(), [&](const Fence& concealed) {
                return concealed.inode == touched.inode && concealed.range.overlaps(touched.page);
            });
        return touched;
    }
    return std::nullopt;
}

bool Registry::is_mapped(InodeNo inode) const {
    MutexLock lock(mutex_);
    return by_inode_.contains(inode);
}

bool Registry::has_writers(InodeNo inode) const {
    MutexLock lock(mutex_);
    const auto [first, last] = by_inode_.equal_range(inode);
    return std::any_of(first, last, [](const auto& entry) {
        return entry.second->access == base::Access::ReadWrite;
    });
}

}  // namespace refault::session
