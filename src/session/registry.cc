// Sessions, mappings and fences.
#include "session/registry.h"

#include <algorithm>
#include <set>

#include "session/mapping.h"

namespace refault::session {

using base::Code;
using base::Error;
using base::MutexLock;

Registry::Registry(store::Store& store) : store_(store) {}
Registry::~Registry() = default;

void Registry::add_session(std::shared_ptr<Session> session) {
    MutexLock lock(mutex_);
    sessions_.emplace(session->id(), std::move(session));
}

void Registry::remove_session(SessionId session) {
    MutexLock lock(mutex_);
    sessions_.erase(session);
    std::erase_if(by_inode_,
                  [&](const auto& entry) { return entry.second->session->id() == session; });
    std::erase_if(mappings_,
                  [&](const auto& entry) { return entry.second->session->id() == session; });
    changed_.notify_all();
}

MappingId Registry::add_mapping(const std::shared_ptr<Session>& session, InodeNo inode,
                                FileRange file_range, std::uint64_t address, base::Access access,
                                Earlier earlier) {
    // Those of the file's own wish: what the resync makes later is told when it is there. And those
    // that the program has already: the file may be to have fewer by now.
    const auto attributes = store_.stat(inode);
    const auto replicas = std::max(attributes ? attributes->replicas : 1, earlier.replicas);
    const LayerMask known_layers = layer_mask(replicas) - 1;
    MappingId id;
    {
        MutexLock lock(mutex_);
        id = MappingId(next_mapping_++);
        auto mapping = std::make_unique<Mapping>(Mapping{
            id, session, inode, file_range, address, access, {}, {}, std::move(earlier.held)});
        const bool has_mirrors = access == base::Access::ReadWrite;
        mapping->layers.resize(has_mirrors ? wire::kReplicasMax : 1);
        mapping->mark_stale(file_range, known_layers);
        by_inode_.emplace(inode, mapping.get());
        mappings_.emplace(id, std::move(mapping));
    }
    session->ring();
    return id;
}

Status Registry::remove_mapping(SessionId session, MappingId id) {
    MutexLock lock(mutex_);
    for (;;) {
        const auto at = mappings_.find(id);
        if (at == mappings_.end() || at->second->session->id() != session)
            return Error(Code::NotFound, "no such mapping in this session");
        // A fence holder acts on the client's addresses; they must stay this mapping's until it is
        // done.
        if (!is_fenced_locked(at->second->inode, at->second->file_range)) {
            std::erase_if(by_inode_,
                          [&](const auto& entry) { return entry.second == at->second.get(); });
            mappings_.erase(at);
            changed_.notify_all();
            return {};
        }
        changed_.wait(mutex_);
    }
}

bool Registry::is_fenced_locked(InodeNo inode, FileRange range) const {
    return std::any_of(fences_.begin(), fences_.end(), [&](const Fence& fence) {
        return fence.inode == inode && fence.range.overlaps(range);
    });
}

std::vector<FileRange> Registry::unfenced_locked(InodeNo inode, FileRange range) const {
    RangeSet open;
    open.add(range);
    for (const auto& fence : fences_)
        if (fence.inode == inode) open.subtract(fence.range);
    return open.parts();
}

void Registry::drop_fence_locked(InodeNo inode, FileRange range) {
    const auto at = std::find_if(fences_.begin(), fences_.end(), [&](const Fence& fence) {
        return fence.inode == inode && fence.range == range;
    });
    CHECK(at != fences_.end());
    fences_.erase(at);
    wake_stores_locked(inode, range);
    changed_.notify_all();
}

std::string Registry::placer_locked(InodeNo inode, FileRange range) const {
    const auto [first, last] = by_inode_.equal_range(inode);
    for (auto at = first; at != last; ++at)
        if (at->second->is_placing(range)) return at->second->session->describe();
    return {};
}

Result<std::vector<FenceTarget>> Registry::fence(InodeNo inode, FileRange range,
                                                 std::chrono::steady_clock::time_point deadline,
                                                 OnSilence on_silence, LayerMask layers) {
    MutexLock lock(mutex_);
    while (is_fenced_locked(inode, range))
        if (!changed_.wait_until(mutex_, deadline) && is_fenced_locked(inode, range))
            return Error(Code::TimedOut, "the range is locked by another operation");
    fences_.push_back({inode, range});
    for (std::string placer; !(placer = placer_locked(inode, range)).empty();) {
        if (changed_.wait_until(mutex_, deadline)) continue;
        if (placer = placer_locked(inode, range); placer.empty()) break;
        const auto [first, last] = by_inode_.equal_range(inode);
        if (on_silence == OnSilence::GoOn) {
            for (auto at = first; at != last; ++at) at->second->give_up_placing(range);
            break;
        }
        drop_fence_locked(inode, range);
        for (auto at = first; at != last; ++at)
            if (at->second->lags(range)) at->second->session->ring();
        return Error(Code::TimedOut, placer + " does not finish mapping its new place");
    }
    std::vector<FenceTarget> targets;
    const auto [first, last] = by_inode_.equal_range(inode);
    for (auto at = first; at != last; ++at) {
        const Mapping& mapping = *at->second;
        const auto within = mapping.file_range.intersect(range);
        for (std::uint32_t i = 0; i < mapping.layers.size(); ++i) {
            const auto& layer = mapping.layers[i];
            if (!layer.is_used || (layers & layer_mask(i)) == 0) continue;
            for (const auto live : layer.stale.gaps(within))
                targets.push_back(
                    {mapping.session, mapping.addresses_of(live, i), mapping.access, true});
            for (const auto stale : layer.stale.parts(within))
                targets.push_back(
                    {mapping.session, mapping.addresses_of(stale, i), mapping.access, false});
        }
    }
    return targets;
}

void Registry::lift(InodeNo inode, FileRange range, LayerMask moved, bool keeps_clean) {
    if ((moved & layer_mask(0)) != 0) page_cache_->drop(inode, range);
    MutexLock lock(mutex_);
    drop_fence_locked(inode, range);
    const auto [first, last] = by_inode_.equal_range(inode);
    for (auto at = first; at != last; ++at) {
        Mapping& mapping = *at->second;
        // Whoever held the fence may have ended the tracking of stores there.
        if (!keeps_clean) mapping.clean.subtract(mapping.file_range.intersect(range));
        if (moved != 0) mapping.mark_stale(range, moved);
        if (mapping.lags(range)) mapping.session->ring();
    }
}

void Registry::mark_stale_locked(InodeNo inode, FileRange range, LayerMask layers) {
    const auto [first, last] = by_inode_.equal_range(inode);
    for (auto at = first; at != last; ++at) {
        Mapping& mapping = *at->second;
        mapping.mark_stale(range, layers);
        if (mapping.lags(range)) mapping.session->ring();
    }
}

void Registry::mark_stale(InodeNo inode, FileRange range, LayerMask layers) {
    MutexLock lock(mutex_);
    mark_stale_locked(inode, range, layers);
}

void Registry::conceal(InodeNo inode, FileRange range) {
    MutexLock lock(mutex_);
    concealed_.push_back({inode, range});
    mark_stale_locked(inode, range);
}

void Registry::reveal(InodeNo inode, FileRange range, bool was_cut) {
    MutexLock lock(mutex_);
    const auto at = std::find_if(concealed_.begin(), concealed_.end(), [&](const Fence& concealed) {
        return concealed.inode == inode && concealed.range == range;
    });
    CHECK(at != concealed_.end());
    concealed_.erase(at);
    if (!was_cut) mark_stale_locked(inode, range);
}

bool Registry::lags_locked(InodeNo inode, FileRange range) const {
    const auto [first, last] = by_inode_.equal_range(inode);
    return std::any_of(first, last, [&](const auto& entry) { return entry.second->lags(range); });
}

bool Registry::is_placed(InodeNo inode, FileRange range) const {
    MutexLock lock(mutex_);
    return !lags_locked(inode, range);
}

bool Registry::is_placed(InodeNo inode, FileRange range, SessionId session) const {
    MutexLock lock(mutex_);
    const auto [first, last] = by_inode_.equal_range(inode);
    return std::none_of(first, last, [&](const auto& entry) {
        return entry.second->session->id() == session && entry.second->lags(range);
    });
}

bool Registry::wait_until_placed(InodeNo inode, FileRange range,
                                 std::chrono::steady_clock::time_point deadline) {
    MutexLock lock(mutex_);
    while (lags_locked(inode, range)) {
        if (std::chrono::steady_clock::now() >= deadline) return false;
        (void)changed_.wait_until(mutex_, deadline);
    }
    return true;
}

std::size_t Registry::wait_until_placed(std::chrono::steady_clock::time_point deadline) {
    MutexLock lock(mutex_);
    for (;;) {
        std::set<SessionId> lagging;
        for (const auto& [id, mapping] : mappings_)
            if (mapping->lags(mapping->file_range)) lagging.insert(mapping->session->id());
        if (lagging.empty() || std::chrono::steady_clock::now() >= deadline) return lagging.size();
        (void)changed_.wait_until(mutex_, deadline);
    }
}

std::vector<base::Cred> Registry::users_of(InodeNo inode) const {
    MutexLock lock(mutex_);
    std::vector<base::Cred> users;
    const auto [first, last] = by_inode_.equal_range(inode);
    for (auto at = first; at != last; ++at) users.push_back(at->second->session->cred());
    return users;
}

std::map<pid_t, RangeSet> Registry::placed_addresses() const {
    std::map<pid_t, RangeSet> placed;
    MutexLock lock(mutex_);
    for (const auto& [id, mapping] : mappings_)
        if (!mapping->lags(mapping->file_range))
            placed[mapping->session->cred().pid].add(FileRange::of_length(
                mapping->address,
                wire::reserved_bytes(mapping->file_range.length(), mapping->access)));
    return placed;
}

std::vector<MappingInfo> Registry::mappings() const {
    std::vector<MappingInfo> infos;
    {
        MutexLock lock(mutex_);
        for (const auto& [id, mapping] : mappings_) {
            const Session& session = *mapping->session;
            infos.push_back({session.id(),
                             id,
                             session.cred().pid,
                             session.cred().uid,
                             session.command(),
                             mapping->inode,
                             {},
                             mapping->file_range,
                             mapping->addresses_of(mapping->file_range),
                             mapping->access,
                             mapping->layers[0].stale.length_bytes(),
                             mapping->suspended.length_bytes(),
                             mapping->clean.length_bytes()});
        }
    }
    for (auto& info : infos) info.path = store_.path_of(info.inode);
    return infos;
}

std::vector<SessionInfo> Registry::sessions() const {
    MutexLock lock(mutex_);
    std::map<SessionId, SessionInfo> infos;
    for (const auto& [id, session] : sessions_)
        infos[id] = {id,
                     session->cred().pid,
                     session->cred().uid,
                     session->command(),
                     0,
                     0,
                     session->handles_kernel_faults()};
    for (const auto& [id, mapping] : mappings_) {
        auto& info = infos[mapping->session->id()];
        ++info.mappings;
        info.mapped_bytes += mapping->file_range.length();
    }
    std::vector<SessionInfo> list;
    for (auto& [id, info] : infos) list.push_back(std::move(info));
    return list;
}

}  // namespace refault::session
