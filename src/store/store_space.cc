// Where the bytes of files get space, and the segments' files that it takes. The caller holds the
// file's layout lock.
#include "base/range_set.h"
#include "base/units.h"
#include "store/change.h"
#include "store/clock.h"
#include "store/placement.h"
#include "store/state.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::kPageBytes;

Status Store::make_segment_file_locked(SegmentKey key) {
    if (allocator_->has_file(key)) return {};
    auto& device = *devices_.at(key.device);
    RETURN_IF_ERROR(device.create_fresh_segment(key.segment));
    // The journal may not know of a segment whose file a power failure takes away.
    if (const auto synced =
            device.sync(device.segment_range(key.segment), device::DurableWrite::SegmentMake);
        !synced) {
        base::discard(device.release_segment(key.segment), "its next user makes it anew anyway");
        return synced;
    }
    allocator_->set_has_file(key);
    return {};
}

// Takes back what place() took, before any of it was journalled or written.
void Store::unplace_locked(std::span<const Piece> pieces) {
    for (const auto& piece : pieces) {
        allocator_->release(piece.device, piece.device_range());
        const auto key = segment_key_locked(piece.device, piece.device_offset);
        if (allocator_->taken_bytes(key) > 0 || state_->device(key.device)->map.owner(key.segment))
            continue;
        if (allocator_->has_file(key))
            base::discard(devices_.at(key.device)->release_segment(key.segment),
                          "its next user makes it anew anyway");
        allocator_->disown(key);
    }
}

// What is lost is no hole: it gets memory again when it is healed.
std::vector<FileRange> Store::holes_locked(const Inode& node, FileRange range) const {
    base::RangeSet present;
    for (const auto& extent : node.extents.overlapping(node.attributes.inode, range))
        if (extent.replica == 0) present.add(extent.file_range());
    for (const auto& lost : node.lost.overlapping(range)) present.add(lost.range);
    return present.gaps(range);
}

// Takes space for the holes on as many devices as the file has copies. Where the pool has too few
// devices the file has fewer copies, until the resync adds them.
std::vector<Extent> Store::place_holes_locked(const Inode& node, const SegmentOwner& owner,
                                              const std::vector<FileRange>& holes) {
    const auto& attributes = node.attributes;
    std::vector<Extent> extents;
    for (const auto& hole : holes) {
        std::optional<Piece> behind;
        if (const auto last = node.extents.before(attributes.inode, hole.begin()))
            behind = Piece{last->file_offset, last->device, last->device_offset, last->length};
        for (std::uint32_t replica = 0; replica < attributes.replicas; ++replica) {
            for (const auto& [part, taken] :
                 taken_devices_locked(attributes.inode, hole, replica, extents)) {
                for (const auto& piece : Placement(*allocator_, taken).place(owner, part, behind)) {
                    extents.push_back({attributes.inode, piece.file_offset, piece.device,
                                       piece.device_offset, piece.length, replica});
                    behind = piece;
                }
            }
            behind.reset();
        }
    }
    return extents;
}

Status Store::fill_locked(const Inode& node, FileRange range, std::uint64_t size_bytes) {
    auto attributes = node.attributes;
    std::uint64_t wanted = 0;
    const auto holes = range.empty() ? std::vector<FileRange>() : holes_locked(node, range);
    for (const auto& hole : holes) wanted += hole.length();
    if (wanted == 0 && size_bytes == attributes.size_bytes) return {};
    const auto owner =
        Placement::owner_for_growth(*allocator_, attributes.inode, attributes.uid, wanted);
    const auto extents = place_holes_locked(node, owner, holes);
    std::uint64_t placed = 0;
    Change change;
    Status ready;
    std::set<SegmentKey> owned;
    std::vector<Piece> pieces;
    for (const auto& extent : extents) {
        if (extent.replica == 0) placed += extent.length;
        pieces.push_back({extent.file_offset, extent.device, extent.device_offset, extent.length});
        const auto key = segment_key_locked(extent.device, extent.device_offset);
        if (ready) ready = make_segment_file_locked(key);
        if (!state_->device(key.device)->map.owner(key.segment) && owned.insert(key).second)
            change.operations.push_back(op::OwnSegment{key.device, key.segment, owner});
        change.operations.push_back(op::AddExtent{extent});
    }
    if (placed < wanted)
        ready =
            Error(Code::NoSpace, "the file needs " + base::format_size(wanted) +
                                     " more but the pool has room for only " +
                                     base::format_size(placed) + "; add a device or remove files");
    attributes.size_bytes = size_bytes;
    attributes.modified_ns = attributes.changed_ns = now_ns();
    change.operations.push_back(op::UpdateInode{attributes});
    if (ready) ready = append_and_apply_locked(change);
    if (!ready) {
        unplace_locked(pieces);
        return ready;
    }
    checkpoint_if_due_locked();
    return {};
}

}  // namespace refault::store
