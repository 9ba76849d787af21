// Sizes and bytes of files. The caller holds the file's layout lock, so extents read under the
// store's lock stay true while the bytes are moved without it.
#include <algorithm>
#include <array>

#include "store/change.h"
#include "store/clock.h"
#include "store/metadata_log.h"
#include "store/state.h"
#include "store/store.h"

namespace refault::store {

using base::align_up;
using base::Code;
using base::Error;
using base::kPageBytes;
using base::MutexLock;

namespace {

constexpr std::size_t kUnsavedTimesMax = 256;

Error no_inode(InodeNo inode) {
    return Error(Code::NotFound, "there is no file with inode " + std::to_string(inode.raw()));
}

FileRange whole_pages(FileRange range) {
    return {base::align_down(range.begin(), kPageBytes), align_up(range.end(), kPageBytes)};
}

}  // namespace

// A part of one page, on all copies.
Status Store::zero_part(InodeNo inode, FileRange range) const {
    static constexpr std::array<std::uint8_t, kPageBytes> kZeros{};
    if (range.empty()) return {};
    CHECK(range.length() < kPageBytes);
    const auto part = file_part(inode, range);
    if (!part) return part.error();
    return write_to_all(*part, range.begin(), std::span(kZeros).first(range.length()));
}

// Bytes between the end of a file and the end of its last page may have been stored through a
// mapping.
Status Store::zero_tail(InodeNo inode, std::uint64_t offset) const {
    return zero_part_of_page(inode, FileRange(offset, align_up(offset, kPageBytes)));
}

// The partial last page keeps no bytes behind the size, on either side of the change.
Status Store::set_size_to(InodeNo inode, std::uint64_t size_bytes, Fill fill) {
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
        auto attributes = node->attributes;
        if (size_bytes > attributes.size_bytes) {
            const FileRange added(align_up(attributes.size_bytes, kPageBytes),
                                  align_up(size_bytes, kPageBytes));
            return fill_locked(*node, fill == Fill::Space ? added : FileRange(), size_bytes);
        }
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

Status Store::resize(InodeNo inode, std::uint64_t size_bytes) {
    return set_size_to(inode, size_bytes, Fill::Space);
}

Status Store::set_size(InodeNo inode, std::uint64_t size_bytes) {
    return set_size_to(inode, size_bytes, Fill::Hole);
}

Result<Store::FilePart> Store::part_locked(InodeNo inode, FileRange range) const {
    const auto* node = state_->inode(inode);
    if (node == nullptr) return no_inode(inode);
    if (node->is_directory()) return Error(Code::Invalid, "a directory has no bytes", EISDIR);
    if (!node->has_bytes()) return Error(Code::Invalid, "the inode has no bytes", EINVAL);
    FilePart part;
    part.size_bytes = node->attributes.size_bytes;
    part.extents = node->extents.overlapping(inode, range);
    for (const auto& extent : part.extents)
        part.devices.try_emplace(extent.device, devices_.at(extent.device));
    if (!node->lost.empty()) part.lost = node->lost.overlapping(range);
    return part;
}

Result<Store::FilePart> Store::file_part(InodeNo inode, FileRange range) const {
    MutexLock lock(mutex_);
    return part_locked(inode, range);
}

// The bytes of one page, or a part of it, from the first copy that can be read.
Status Store::read_page_of_any(const Extent& page, const std::vector<Extent>& copies,
                               const Devices& devices, std::span<std::uint8_t> into) {
    auto read = devices.at(page.device)->read(page.device_offset, into);
    for (const auto& copy : copies) {
        if (read) return {};
        if (copy.replica == 0 || !copy.file_range().contains(page.file_range())) continue;
        read = devices.at(copy.device)
                   ->read(copy.device_offset + (page.file_offset - copy.file_offset), into);
    }
    return read;
}

// From the primary; where that fails, page by page from any copy, and whoever repairs is told.
Status Store::read_any_copy(const Extent& primary, const std::vector<Extent>& copies,
                            const Devices& devices, std::span<std::uint8_t> into) const {
    const auto first = devices.at(primary.device)->read(primary.device_offset, into);
    if (first) return {};
    report_media_error(primary.device, primary.device_range(), MediaAccess::Read, first.error());
    for (auto at = primary.file_offset; at < primary.file_range().end();) {
        const auto end =
            std::min(base::align_down(at, kPageBytes) + kPageBytes, primary.file_range().end());
        RETURN_IF_ERROR(read_page_of_any(cut_to(primary, FileRange(at, end)), copies, devices,
                                         into.subspan(at - primary.file_offset, end - at)));
        at = end;
    }
    return {};
}

Result<std::size_t> Store::read(InodeNo inode, std::uint64_t offset,
                                std::span<std::uint8_t> into) const {
    const auto begin = std::min(offset, kFileBytesMax);
    const auto wanted = std::min<std::uint64_t>(into.size(), kFileBytesMax - begin);
    const auto part = file_part(inode, FileRange::of_length(begin, wanted));
    if (!part) return part.error();
    if (offset >= part->size_bytes) return std::size_t{0};
    into = into.first(std::min(wanted, part->size_bytes - offset));
    const auto range = FileRange::of_length(offset, into.size());
    // Whole pages are lost: what begins in the file is of the file.
    if (!part->lost.empty() && part->lost.front().range.begin() < range.end())
        return Error(Code::Io,
                     "bytes " + std::to_string(part->lost.front().range.begin()) + " to " +
                         std::to_string(part->lost.front().range.end()) +
                         " of the file are lost; see: refault lost. Overwriting or punching whole "
                         "pages clears them");
    // Primaries come first, ascending; what lies between them is a hole.
    auto at = offset;
    const auto zero_to = [&](std::uint64_t end) {
        std::ranges::fill(into.subspan(at - offset, end - at), std::uint8_t{0});
    };
    for (const auto& whole : part->extents) {
        if (whole.replica != 0 || whole.file_offset >= range.end()) break;
        const auto extent = cut_to(whole, range);
        zero_to(extent.file_offset);
        at = extent.file_offset + extent.length;
        RETURN_IF_ERROR(read_any_copy(extent, part->extents, part->devices,
                                      into.subspan(extent.file_offset - offset, extent.length)));
    }
    zero_to(range.end());
    return into.size();
}

Result<std::size_t> Store::write(InodeNo inode, std::uint64_t offset,
                                 std::span<const std::uint8_t> from) {
    const auto attributes = stat(inode);
    if (!attributes) return attributes.error();
    if (offset >= attributes->size_bytes) return std::size_t{0};
    from = from.first(std::min<std::uint64_t>(from.size(), attributes->size_bytes - offset));
    if (from.empty()) return std::size_t{0};
    return write_filling(inode, offset, from, attributes->size_bytes);
}

Result<std::size_t> Store::write_growing(InodeNo inode, std::uint64_t offset,
                                         std::span<const std::uint8_t> from) {
    const auto attributes = stat(inode);
    if (!attributes) return attributes.error();
    if (from.empty()) return std::size_t{0};
    if (offset > kFileBytesMax || from.size() > kFileBytesMax - offset)
        return Error(Code::NoSpace, "no pool has room for such a file", EFBIG);
    const auto size = std::max<std::uint64_t>(attributes->size_bytes, offset + from.size());
    if (size > attributes->size_bytes) RETURN_IF_ERROR(zero_tail(inode, attributes->size_bytes));
    return write_filling(inode, offset, from, size);
}

Result<Store::FilePart> Store::fill_part(InodeNo inode, FileRange range, std::uint64_t size_bytes) {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr) return no_inode(inode);
    if (!node->has_bytes())
        return Error(Code::Invalid, "only files have bytes to write",
                     node->is_directory() ? EISDIR : EINVAL);
    if (!node->lost.empty() && !node->lost.overlapping(range).empty())
        return Error(
            Code::Io,
            "a part of the page is lost; overwrite whole pages of 4096 bytes, or punch it");
    RETURN_IF_ERROR(fill_locked(*node, whole_pages(range), size_bytes));
    return part_locked(inode, range);
}

// Space first, all of it: a write that finds the pool full has changed nothing.
Result<std::size_t> Store::write_filling(InodeNo inode, std::uint64_t offset,
                                         std::span<const std::uint8_t> from,
                                         std::uint64_t size_bytes) {
    const auto range = FileRange::of_length(offset, from.size());
    const auto part = fill_part(inode, range, size_bytes);
    if (!part) return part.error();
    RETURN_IF_ERROR(write_to_all(*part, offset, from));
    MutexLock lock(mutex_);
    note_modified_locked(inode);
    if (unsaved_times_.size() > kUnsavedTimesMax) RETURN_IF_ERROR(save_unsaved_locked());
    return from.size();
}

// Whoever repairs is told of what cannot be written.
Status Store::write_to_all(const FilePart& part, std::uint64_t offset,
                           std::span<const std::uint8_t> from) const {
    for (const auto& extent : part.extents) {
        const auto bytes = from.subspan(extent.file_offset - offset, extent.length);
        auto& device = *part.devices.at(extent.device);
        if (const auto written = device.write(extent.device_offset, bytes); !written) {
            report_bad_pages(extent, device, bytes);
            return written;
        }
    }
    return {};
}

void Store::report_bad_pages(const Extent& extent, device::Device& device,
                             std::span<const std::uint8_t> bytes) const {
    const auto range = extent.device_range();
    for (auto at = range.begin(); at < range.end();) {
        const auto end = std::min(base::align_down(at, kPageBytes) + kPageBytes, range.end());
        const auto part = bytes.subspan(at - range.begin(), end - at);
        if (const auto written = device.write(at, part); !written)
            report_media_error(extent.device, DeviceRange(at, end), MediaAccess::Write,
                               written.error());
        at = end;
    }
}

Status Store::punch(InodeNo inode, FileRange range) {
    const auto part = file_part(inode, range);
    if (!part) return part.error();
    for (const auto& extent : part->extents)
        RETURN_IF_ERROR(part->devices.at(extent.device)->punch(extent.device_range()));
    MutexLock lock(mutex_);
    note_modified_locked(inode);
    return {};
}

Status Store::populate(InodeNo inode, FileRange range) {
    const FileRange pages(base::align_down(std::min(range.begin(), kFileBytesMax), kPageBytes),
                          align_up(std::min(range.end(), kFileBytesMax), kPageBytes));
    const auto part = file_part(inode, pages);
    if (!part) return part.error();
    for (const auto& extent : part->extents)
        RETURN_IF_ERROR(part->devices.at(extent.device)->populate(extent.device_range()));
    return {};
}

Status Store::sync(InodeNo inode, FileRange range) {
    const auto part = file_part(inode, range);
    if (!part) return part.error();
    for (const auto& extent : part->extents)
        RETURN_IF_ERROR(part->devices.at(extent.device)->sync(extent.device_range()));
    MutexLock lock(mutex_);
    return unsaved_times_.contains(inode) ? save_unsaved_locked() : Status();
}

}  // namespace refault::store
