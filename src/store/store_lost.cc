// What is lost, what is being repaired in its place, and what is used again. The caller holds the
// file's layout lock where it changes anything.
#include <algorithm>

#include "base/range_set.h"
#include "store/change.h"
#include "store/clock.h"
#include "store/placement.h"
#include "store/state.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::kPageBytes;
using base::MutexLock;

Status Store::mark_lost(const Extent& extent, FailureKind kind) {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(extent.inode);
    if (node == nullptr || !node->extents.holds(extent))
        return Error(Code::Busy, "the extent has changed meanwhile");
    Change change;
    change.operations = {op::MarkLost{
        extent.inode, {extent.file_range(), kind, extent.device, extent.device_offset, now_ns()}}};
    return commit_locked(change);
}

std::vector<LostRange> Store::lost(InodeNo inode, FileRange range) const {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr || node->lost.empty()) return {};
    return node->lost.overlapping(range);
}

bool Store::ends_with_daemon_locked(DeviceId id) const {
    const auto device = devices_.find(id);
    return device != devices_.end() && device->second->spec().kind == device::DeviceKind::Ram;
}

// A crash while the hole is there must not leave zeros that pass for the file's bytes:
//  - of the primary: the next open lets another copy take its place;
//  - of a copy: it is compared with the primary.
// A device that ends with the daemon is not found again.
Status Store::begin_repair(const Extent& bad) {
    MutexLock lock(mutex_);
    if (ends_with_daemon_locked(bad.device)) return {};
    const auto* node = state_->inode(bad.inode);
    if (node == nullptr || !node->extents.holds(bad))
        return Error(Code::Busy, "the extent has changed meanwhile");
    Change change;
    if (bad.replica > 0 && !node->is_unsynced)
        change.operations = {op::SetUnsynced{bad.inode, true}};
    if (bad.replica == 0 && node->lost.overlapping(bad.file_range()).empty())
        change.operations = {op::MarkLost{
            bad.inode,
            {bad.file_range(), FailureKind::UnderRepair, bad.device, bad.device_offset, now_ns()}}};
    return change.operations.empty() ? Status() : commit_locked(change);
}

Status Store::end_repair(const Extent& bad) {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(bad.inode);
    if (node == nullptr || bad.replica > 0) return {};
    Change change;
    // Also on a device that ends with the daemon, of which another may take its place alive.
    if (node->is_unsynced)
        change.operations.push_back(
            op::SetTakenOver{bad.inode, bad.file_range().begin(), bad.file_range().end(), true});
    for (const auto& lost : node->lost.overlapping(bad.file_range()))
        if (lost.kind == FailureKind::UnderRepair)
            change.operations.push_back(
                op::ClearLost{bad.inode, lost.range.begin(), lost.range.end()});
    return change.operations.empty() ? Status() : commit_locked(change);
}

// Before devices are matched: what a repair has left when the daemon died in the middle of it.
Status Store::end_broken_repairs_locked() {
    std::vector<Extent> primaries;
    for (const auto& [number, node] : state_->inodes())
        for (const auto& lost : node.lost.all()) {
            if (lost.kind != FailureKind::UnderRepair) continue;
            for (const auto& extent : node.extents.overlapping(number, lost.range))
                if (extent.replica == 0) primaries.push_back(extent);
        }
    for (const auto& primary : primaries) {
        Change change;
        Dropped dropped{primary, {}, {}};
        drop_copy_locked(primary, FailureKind::Poison, change, dropped);
        for (const auto& operation : change.operations) RETURN_IF_ERROR(state_->apply(operation));
    }
    return {};
}

// What is to roll back is nobody's concern.
base::RangeSet Store::taken_over_at_open(InodeNo inode) const {
    MutexLock lock(mutex_);
    const auto at = taken_over_at_open_.find(inode);
    const auto* node = state_->inode(inode);
    if (at == taken_over_at_open_.end() || node == nullptr ||
        node->attributes.on_loss == OnLoss::Rollback)
        return {};
    return at->second;
}

std::vector<std::pair<InodeNo, FileRange>> Store::taken_over() const {
    MutexLock lock(mutex_);
    std::vector<std::pair<InodeNo, FileRange>> all;
    for (const auto inode : state_->taken_over())
        for (const auto part : state_->inode(inode)->rare->taken_over.parts())
            all.emplace_back(inode, part);
    return all;
}

Status Store::forget_taken_over(std::span<const std::pair<InodeNo, FileRange>> parts) {
    MutexLock lock(mutex_);
    Change change;
    for (const auto& [inode, range] : parts)
        if (state_->taken_over().contains(inode))
            change.operations.push_back(op::SetTakenOver{inode, range.begin(), range.end(), false});
    return change.operations.empty() ? Status() : commit_locked(change);
}

std::vector<std::pair<InodeNo, LostRange>> Store::all_lost() const {
    MutexLock lock(mutex_);
    std::vector<std::pair<InodeNo, LostRange>> all;
    for (const auto& [number, node] : state_->inodes())
        for (const auto& lost : node.lost.all())
            if (lost.kind != FailureKind::UnderRepair) all.emplace_back(number, lost);
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
        return std::pair(a.first, a.second.range) < std::pair(b.first, b.second.range);
    });
    return all;
}

// Fresh places for the part of a lost range that has no extent. `owned`: segments that the change
// gives an owner already.
Status Store::place_lost_locked(const Inode& node, FileRange range, Change& change,
                                std::vector<Piece>& pieces, std::set<SegmentKey>& owned) {
    const auto inode = node.attributes.inode;
    base::RangeSet present;
    for (const auto& extent : node.extents.overlapping(inode, range))
        if (extent.replica == 0) present.add(extent.file_range());
    // A copy that could not be read when the primary was lost, and has been punched: with a new
    // primary beside it the two might share a device.
    for (const auto& copy : node.extents.overlapping(inode, range)) {
        for (const auto part : present.gaps(copy.file_range()))
            change.operations.push_back(op::RenumberExtent{cut_to(copy, part), 0});
        present.add(copy.file_range());
    }
    const auto owner =
        Placement::owner_for_growth(*allocator_, inode, node.attributes.uid, range.length());
    for (const auto gap : present.gaps(range)) {
        std::uint64_t placed = 0;
        std::vector<Piece> found;
        // A copy may be on its way.
        for (const auto& [part, taken] : taken_devices_locked(inode, gap, 0, {}))
            for (const auto& piece : Placement(*allocator_, taken).place(owner, part))
                found.push_back(piece);
        pieces.insert(pieces.end(), found.begin(), found.end());
        for (const auto& piece : found) {
            placed += piece.length;
            const auto key = segment_key_locked(piece.device, piece.device_offset);
            RETURN_IF_ERROR(make_segment_file_locked(key));
            if (!state_->device(key.device)->map.owner(key.segment) && owned.insert(key).second)
                change.operations.push_back(op::OwnSegment{key.device, key.segment, owner});
            change.operations.push_back(op::AddExtent{
                {inode, piece.file_offset, piece.device, piece.device_offset, piece.length, 0}});
        }
        if (placed < gap.length())
            return Error(Code::NoSpace,
                         "the pool has no room to replace what is lost; add a device or remove "
                         "files");
    }
    return {};
}

Status Store::heal(InodeNo inode, FileRange range) {
    const FileRange whole(base::align_up(range.begin(), kPageBytes),
                          std::max(base::align_up(range.begin(), kPageBytes),
                                   base::align_down(range.end(), kPageBytes)));
    const auto gone = lost(inode, whole);
    if (gone.empty()) return {};
    // The bad memory goes with the hole; what is read or mapped then is fresh, also after a crash.
    for (const auto& part : gone)
        for (const auto& extent : extents(inode, part.range)) {
            auto device = this->device(extent.device);
            if (!device) return device.error();
            RETURN_IF_ERROR((*device)->punch(extent.device_range()));
            RETURN_IF_ERROR((*device)->sync(extent.device_range(), device::DurableWrite::FileHole));
        }
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr) return Error(Code::NotFound, "the file is gone");
    Change change;
    std::vector<Piece> pieces;
    std::set<SegmentKey> owned;
    Status placed;
    for (const auto& part : gone) {
        if (placed) placed = place_lost_locked(*node, part.range, change, pieces, owned);
        change.operations.push_back(op::ClearLost{inode, part.range.begin(), part.range.end()});
    }
    if (placed) placed = append_and_apply_locked(change);
    if (!placed) unplace_locked(pieces);
    return placed;
}

}  // namespace refault::store
