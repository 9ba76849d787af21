// Sizes and bytes of files. The caller holds the file's layout lock, so extents read under the
// store's lock stay true while the bytes are moved without it.
#include <algorithm>
#include <array>

#include "base/units.h"
#include "store/change.h"
#include "store/clock.h"
#include "store/metadata_log.h"
#include "store/placement.h"
#include "store/state.h"
#include "store/store.h"

namespace refault::store {

using base::align_up;
using base::Code;
using base::Error;
using base::kPageBytes;
using base::MutexLock;

namespace {

constexpr std::uint64_t kFileBytesMax = 1ull << 60;
constexpr std::size_t kUnsavedTimesMax = 256;

Error no_inode(InodeNo inode) {
    return Error(Code::NotFound, "there is no file with inode " + std::to_string(inode.raw()));
}

}  // namespace

Status Store::make_segment_file_locked(SegmentKey key) {
    if (allocator_->has_file(key)) return {};
    auto& device = *devices_.at(key.device);
    RETURN_IF_ERROR(device.create_fresh_segment(key.segment));
    // The journal may not know of a segment whose file a power failure takes away.
    if (const auto synced = device.sync(device.segment_range(key.segment)); !synced) {
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

Status Store::grow_locked(const Inode& node, std::uint64_t size_bytes) {
    auto attributes = node.attributes;
    const FileRange wanted(align_up(attributes.size_bytes, kPageBytes),
                           align_up(size_bytes, kPageBytes));
    const auto owner =
        Placement::owner_for_growth(*allocator_, attributes.inode, attributes.uid, wanted.length());
    std::optional<Piece> behind;
    if (const auto last = node.extents.before(attributes.inode, wanted.begin()))
        behind = Piece{last->file_offset, last->device, last->device_offset, last->length};
    std::vector<Piece> pieces;
    std::vector<Extent> extents;
    // Where the pool has too few devices the file has fewer copies for now: the resync adds them.
    for (std::uint32_t replica = 0; replica < attributes.replicas; ++replica) {
        for (const auto& [part, taken] :
             taken_devices_locked(attributes.inode, wanted, replica, extents)) {
            for (const auto& piece : Placement(*allocator_, taken).place(owner, part, behind)) {
                pieces.push_back(piece);
                extents.push_back({attributes.inode, piece.file_offset, piece.device,
                                   piece.device_offset, piece.length, replica});
                behind = piece;
            }
        }
        behind.reset();
    }
    std::uint64_t placed = 0;
    Change change;
    Status ready;
    std::set<SegmentKey> owned;
    for (const auto& extent : extents) {
        if (extent.replica == 0) placed += extent.length;
        const auto key = segment_key_locked(extent.device, extent.device_offset);
        if (ready) ready = make_segment_file_locked(key);
        if (!state_->device(key.device)->map.owner(key.segment) && owned.insert(key).second)
            change.operations.push_back(op::OwnSegment{key.device, key.segment, owner});
        change.operations.push_back(op::AddExtent{extent});
    }
    if (placed < wanted.length())
        ready =
            Error(Code::NoSpace, "the file needs " + base::format_size(wanted.length()) +
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

// Bytes between the end of a file and the end of its last page may have been stored through a
// mapping.
Status Store::zero_tail(InodeNo inode, std::uint64_t offset) const {
    static constexpr std::array<std::uint8_t, kPageBytes> kZeros{};
    const auto length = align_up(offset, kPageBytes) - offset;
    if (length == 0) return {};
    Devices devices;
    const auto part = file_part(inode, offset, length, devices);
    if (!part) return part.error();
    for (const auto& extent : *part)
        RETURN_IF_ERROR(devices.at(extent.device)
                            ->write(extent.device_offset, std::span(kZeros).first(extent.length)));
    return {};
}

Status Store::resize(InodeNo inode, std::uint64_t size_bytes) {
    if (size_bytes > kFileBytesMax)
        return Error(Code::NoSpace, "no pool has room for such a file", EFBIG);
    const auto before = stat(inode);
    if (!before) return before.error();
    if (before->type != FileType::Regular)
        return Error(Code::Invalid, "only files have a size to set",
                     before->type == FileType::Directory ? EISDIR : EINVAL);
    if (size_bytes > before->size_bytes) RETURN_IF_ERROR(zero_tail(inode, before->size_bytes));
    Change change;
    {
        MutexLock lock(mutex_);
        const auto* node = state_->inode(inode);
        if (node == nullptr) return no_inode(inode);
        if (size_bytes > node->attributes.size_bytes) return grow_locked(*node, size_bytes);
        auto attributes = node->attributes;
        attributes.size_bytes = size_bytes;
        attributes.modified_ns = attributes.changed_ns = now_ns();
        drop_extents_locked(*node, align_up(size_bytes, kPageBytes), change);
        change.operations.push_back(op::UpdateInode{attributes});
        close_emptied_locked(change);
        RETURN_IF_ERROR(commit_locked(change));
    }
    base::discard(vacate(std::move(change)),
                  "the file has its size; the space is found again when the pool is opened");
    return zero_tail(inode, size_bytes);
}

Result<std::vector<Extent>> Store::file_part(InodeNo inode, std::uint64_t offset,
                                             std::uint64_t length, Devices& devices) const {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr) return no_inode(inode);
    if (node->is_directory()) return Error(Code::Invalid, "a directory has no bytes", EISDIR);
    if (!node->has_bytes()) return Error(Code::Invalid, "the inode has no bytes", EINVAL);
    devices = devices_;
    return node->extents.overlapping(inode, FileRange::of_length(offset, length));
}

// From the primary; where that fails, from the copies, and whoever repairs is told.
Status Store::read_any_copy(const Extent& primary, const std::vector<Extent>& copies,
                            const Devices& devices, std::span<std::uint8_t> into) const {
    const auto first = devices.at(primary.device)->read(primary.device_offset, into);
    if (first) return {};
    report_media_error(primary.device, primary.device_range(), first.error());
    std::uint64_t covered = 0;
    for (const auto& copy : copies) {
        const auto part = copy.file_range().intersect(primary.file_range());
        if (copy.replica == 0 || part.empty()) continue;
        const auto read =
            devices.at(copy.device)
                ->read(copy.device_offset + (part.begin() - copy.file_offset),
                       into.subspan(part.begin() - primary.file_offset, part.length()));
        if (read) covered += part.length();
    }
    // Several copies of one part count too often, never too seldom: with more than two copies the
    // last word is the repair's.
    return covered >= primary.length ? Status() : first;
}

Result<std::size_t> Store::read(InodeNo inode, std::uint64_t offset,
                                std::span<std::uint8_t> into) const {
    const auto attributes = stat(inode);
    if (!attributes) return attributes.error();
    if (offset >= attributes->size_bytes) return std::size_t{0};
    into = into.first(std::min<std::uint64_t>(into.size(), attributes->size_bytes - offset));
    Devices devices;
    const auto part = file_part(inode, offset, into.size(), devices);
    if (!part) return part.error();
    if (const auto gone = lost(inode, FileRange::of_length(offset, into.size())); !gone.empty())
        return Error(Code::Io,
                     "bytes " + std::to_string(gone.front().range.begin()) + " to " +
                         std::to_string(gone.front().range.end()) +
                         " of the file are lost; see: refault lost. Overwriting or punching whole "
                         "pages clears them");
    for (const auto& extent : *part)
        if (extent.replica == 0)
            RETURN_IF_ERROR(read_any_copy(
                extent, *part, devices, into.subspan(extent.file_offset - offset, extent.length)));
    return into.size();
}

Result<std::size_t> Store::write(InodeNo inode, std::uint64_t offset,
                                 std::span<const std::uint8_t> from) {
    const auto attributes = stat(inode);
    if (!attributes) return attributes.error();
    if (offset >= attributes->size_bytes) return std::size_t{0};
    from = from.first(std::min<std::uint64_t>(from.size(), attributes->size_bytes - offset));
    Devices devices;
    const auto part = file_part(inode, offset, from.size(), devices);
    if (!part) return part.error();
    if (!lost(inode, FileRange::of_length(offset, from.size())).empty())
        return Error(
            Code::Io,
            "a part of the page is lost; overwrite whole pages of 4096 bytes, or punch it");
    for (const auto& extent : *part)
        if (const auto written =
                devices.at(extent.device)
                    ->write(extent.device_offset,
                            from.subspan(extent.file_offset - offset, extent.length));
            !written) {
            report_media_error(extent.device, extent.device_range(), written.error());
            return written.error();
        }
    MutexLock lock(mutex_);
    note_modified_locked(inode);
    if (unsaved_times_.size() > kUnsavedTimesMax) RETURN_IF_ERROR(save_times_locked());
    return from.size();
}

Status Store::punch(InodeNo inode, FileRange range) {
    Devices devices;
    const auto part = file_part(inode, range.begin(), range.length(), devices);
    if (!part) return part.error();
    for (const auto& extent : *part)
        RETURN_IF_ERROR(devices.at(extent.device)->punch(extent.device_range()));
    MutexLock lock(mutex_);
    note_modified_locked(inode);
    return {};
}

Status Store::populate(InodeNo inode, FileRange range) {
    Devices devices;
    const FileRange pages(base::align_down(std::min(range.begin(), kFileBytesMax), kPageBytes),
                          align_up(std::min(range.end(), kFileBytesMax), kPageBytes));
    const auto part = file_part(inode, pages.begin(), pages.length(), devices);
    if (!part) return part.error();
    for (const auto& extent : *part)
        RETURN_IF_ERROR(devices.at(extent.device)->populate(extent.device_range()));
    return {};
}

Status Store::sync(InodeNo inode, FileRange range) {
    Devices devices;
    const auto part = file_part(inode, range.begin(), range.length(), devices);
    if (!part) return part.error();
    for (const auto& extent : *part)
        RETURN_IF_ERROR(devices.at(extent.device)->sync(extent.device_range()));
    MutexLock lock(mutex_);
    return unsaved_times_.contains(inode) ? save_times_locked() : Status();
}

}  // namespace refault::store
