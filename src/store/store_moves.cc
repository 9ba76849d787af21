// Moves: reserved all together or not at all, then each prepared, committed and released, or
// aborted.
//
//   source   [====== extent ======]          piece: cut at multiples of piece_bytes_max of the file
//   pieces   [==|========|========]
//   target    [==]   [========]  [===|====]  cut where a segment ends; the kind of owner stays
#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "store/change.h"
#include "store/metadata_log.h"
#include "store/move_book.h"
#include "store/move_plan.h"
#include "store/placement.h"
#include "store/state.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::format_size;
using base::MutexLock;

// Goes on after a piece found no place, so that the figures in the refusal are true.
void Store::plan_moves_locked(const std::vector<Extent>& extents, std::optional<SegmentOwner> owner,
                              std::uint64_t piece_bytes_max, MovePlan& plan) {
    const auto step =
        piece_bytes_max >= base::kHugePageBytes
            ? base::align_down(piece_bytes_max, base::kHugePageBytes)
            : std::max(base::align_down(piece_bytes_max, base::kPageBytes), base::kPageBytes);
    std::optional<Piece> behind;
    InodeNo last_inode;
    for (const auto& extent : extents) {
        if (extent.inode != last_inode) behind.reset();
        last_inode = extent.inode;
        plan.wanted_bytes += extent.length;
        const auto source = segment_key_locked(extent.device, extent.device_offset);
        const auto kept =
            owner ? *owner : *state_->device(source.device)->map.owner(source.segment);
        const auto range = extent.file_range();
        for (auto at = range.begin(); at < range.end();) {
            const auto end = std::min(range.end(), base::align_down(at, step) + step);
            plan_piece_locked(extent, FileRange(at, end), kept, behind, plan);
            at = end;
        }
    }
}

// One piece, cut where the devices that have its other copies change.
void Store::plan_piece_locked(const Extent& extent, FileRange range, const SegmentOwner& owner,
                              std::optional<Piece>& behind, MovePlan& plan) {
    const auto replica = plan.copy_as.value_or(extent.replica);
    for (auto& [part, taken] : taken_devices_locked(extent.inode, range, replica, {})) {
        taken.insert(plan.excluded.begin(), plan.excluded.end());
        for (const auto& piece : Placement(*allocator_, taken).place(owner, part, behind)) {
            Extent from = extent;
            from.file_offset = piece.file_offset;
            from.device_offset += piece.file_offset - extent.file_offset;
            from.length = piece.length;
            plan.moves.push_back({from, piece.device, piece.device_offset, plan.copy_as});
            moves_->reserve(plan.moves.back(), owner);
            plan.pieces.push_back(piece);
            plan.placed_bytes += piece.length;
            behind = piece;
        }
    }
}

void Store::give_up_plan_locked(const MovePlan& plan) {
    for (const auto& move : plan.moves) moves_->forget(move);
    unplace_locked(plan.pieces);
}

std::string Store::staying_room_locked(std::optional<DeviceId> excluded) const {
    std::uint64_t room = 0;
    for (const auto& [id, device] : devices_)
        if (id != excluded) room += allocator_->free_bytes(id);
    return format_size(room);
}

Result<std::vector<Move>> Store::reserve_evacuation(DeviceId device,
                                                    std::uint64_t piece_bytes_max) {
    MutexLock lock(mutex_);
    const auto* known = state_->device(device);
    if (known == nullptr)
        return Error(Code::NotFound,
                     "the pool has no device number " + std::to_string(device.raw()));
    std::vector<Extent> extents;
    for (std::uint32_t i = 0; i < known->map.segment_count(); ++i) {
        const auto held = known->map.extents(SegmentNo(i));
        extents.insert(extents.end(), held.begin(), held.end());
    }
    // In the order of the files: their parts come to lie behind each other again.
    std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
        return std::tuple(a.inode, a.replica, a.file_offset) <
               std::tuple(b.inode, b.replica, b.file_offset);
    });
    MovePlan plan;
    plan.excluded = {device};
    plan_moves_locked(extents, std::nullopt, piece_bytes_max, plan);
    if (plan.placed_bytes < plan.wanted_bytes) {
        give_up_plan_locked(plan);
        return Error(Code::NoSpace,
                     "device " + known->name + " holds " + format_size(plan.wanted_bytes) +
                         " but the devices that stay have room for only " +
                         format_size(plan.placed_bytes) +
                         " of it (copies of the same bytes never share a device); add a device or "
                         "free space");
    }
    return std::move(plan.moves);
}

Result<std::vector<Move>> Store::reserve_isolation(InodeNo inode, std::uint64_t piece_bytes_max) {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr)
        return Error(Code::NotFound, "there is no file with inode " + std::to_string(inode.raw()));
    std::vector<Extent> shared;
    for (const auto& extent : node->extents.overlapping(inode, FileRange(0, UINT64_MAX))) {
        const auto key = segment_key_locked(extent.device, extent.device_offset);
        if (state_->device(key.device)->map.owner(key.segment)->kind ==
            SegmentOwner::Kind::SharedByUser)
            shared.push_back(extent);
    }
    MovePlan plan;
    plan_moves_locked(shared, SegmentOwner{SegmentOwner::Kind::Exclusive, 0, inode},
                      piece_bytes_max, plan);
    if (plan.placed_bytes < plan.wanted_bytes) {
        give_up_plan_locked(plan);
        return Error(Code::NoSpace, "the file needs segments of its own for " +
                                        format_size(plan.wanted_bytes) + " but the pool has only " +
                                        staying_room_locked(std::nullopt) +
                                        " of free segments; add a device or remove files");
    }
    return std::move(plan.moves);
}

bool Store::is_current_locked(const Move& move) const {
    if (moves_->find(move) == nullptr) return false;
    const auto* node = state_->inode(move.from.inode);
    const auto* target = state_->device(move.to_device);
    if (node == nullptr || !node->extents.holds(move.from) || target == nullptr ||
        allocator_->is_leaving(move.to_device))
        return false;
    // Another operation may have made a copy of these bytes meanwhile.
    const auto range = move.from.file_range();
    for (const auto& copy : node->extents.overlapping(move.from.inode, range))
        if (move.copy_as ? copy.replica == *move.copy_as || copy.device == move.to_device
                         : copy.replica != move.from.replica && copy.device == move.to_device)
            return false;
    return true;
}

bool Store::is_current(const Move& move) const {
    MutexLock lock(mutex_);
    return is_current_locked(move);
}

Result<Move> Store::reserve_again(const Move& move) {
    Change change;
    Move again = move;
    {
        MutexLock lock(mutex_);
        const auto* reserved = moves_->find(move);
        const auto* node = state_->inode(move.from.inode);
        if (reserved == nullptr || node == nullptr || !node->extents.holds(move.from))
            return Error(Code::Busy, "the extent has changed since its move was planned");
        const auto owner = reserved->owner;
        DeviceSet taken{move.from.device};
        for (const auto& [part, devices] : taken_devices_locked(
                 move.from.inode, move.from.file_range(), move.target_replica(), {}))
            taken.insert(devices.begin(), devices.end());
        const auto piece = Placement(*allocator_, taken).place_whole(owner, move.from.file_range());
        if (!piece)
            return Error(Code::NoSpace, "a part of " + state_->path_of(move.from.inode) + " with " +
                                            format_size(move.from.length) +
                                            " finds no other place: the devices that stay have " +
                                            staying_room_locked(move.from.device) +
                                            " of free segments; add a device or free space");
        change.freed.push_back({move.to_device,
                                DeviceRange::of_length(move.to_offset, move.from.length),
                                reserved->is_prepared});
        moves_->forget(move);
        again.to_device = piece->device;
        again.to_offset = piece->device_offset;
        moves_->reserve(again, owner);
        close_emptied_locked(change);
        if (auto closed = commit_locked(change); !closed) return closed.error();
    }
    base::discard(vacate(std::move(change)),
                  "the move has its new place; the old one is found again at the next open");
    return again;
}

Status Store::prepare_target(const Move& move) {
    MutexLock lock(mutex_);
    auto* reserved = moves_->find(move);
    if (reserved == nullptr) return Error(Code::Busy, "the move has ended already");
    RETURN_IF_ERROR(make_segment_file_locked(segment_key_locked(move.to_device, move.to_offset)));
    reserved->is_prepared = true;
    return {};
}

Status Store::commit_moves(std::span<const Move> moves) {
    MutexLock lock(mutex_);
    Change change;
    std::set<SegmentKey> owned;
    for (const auto& move : moves) {
        if (!is_current_locked(move))
            return Error(Code::Busy, "a part of " + state_->path_of(move.from.inode) +
                                         " changed while it was moved");
        const auto key = segment_key_locked(move.to_device, move.to_offset);
        if (!allocator_->has_file(key))
            return Error(Code::Invalid, "a move is committed that was not prepared");
        if (!state_->device(key.device)->map.owner(key.segment) && owned.insert(key).second)
            change.operations.push_back(
                op::OwnSegment{key.device, key.segment, moves_->find(move)->owner});
        Extent to = move.from;
        to.device = move.to_device;
        to.device_offset = move.to_offset;
        to.replica = move.target_replica();
        if (!move.copy_as) change.operations.push_back(op::CutExtent{move.from});
        change.operations.push_back(op::AddExtent{to});
    }
    RETURN_IF_ERROR(append_and_apply_locked(change));
    for (const auto& move : moves) {
        moves_->forget(move);
        if (!move.copy_as) moves_->retire(move.from);
    }
    checkpoint_if_due_locked();
    return {};
}

Status Store::release_moved(std::span<const Move> moves) {
    Change change;
    {
        MutexLock lock(mutex_);
        for (const auto& move : moves)
            if (moves_->take_retired(move.from))
                change.freed.push_back({move.from.device, move.from.device_range(),
                                        !failed_devices_.contains(move.from.device)});
        close_emptied_locked(change);
        if (const auto closed = commit_locked(change); !closed) {
            // Without the journal no segment is closed; the space in it can still be used by its
            // owner.
            change.closing.clear();
            base::log_line(base::LogLevel::Warning,
                           "an empty segment stays: " + closed.error().message());
        }
    }
    return vacate(std::move(change));
}

void Store::abort_moves(std::span<const Move> moves) {
    Change change;
    {
        MutexLock lock(mutex_);
        for (const auto& move : moves) {
            const auto* reserved = moves_->find(move);
            if (reserved == nullptr) continue;
            change.freed.push_back({move.to_device,
                                    DeviceRange::of_length(move.to_offset, move.from.length),
                                    reserved->is_prepared});
            moves_->forget(move);
        }
        close_emptied_locked(change);
        if (const auto closed = commit_locked(change); !closed) change.closing.clear();
    }
    base::discard(vacate(std::move(change)),
                  "what stays taken is found again when the pool is opened");
}

}  // namespace refault::store
