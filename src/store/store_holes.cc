// Giving and taking the space of parts of files. The caller holds the file's layout lock, and
// nobody maps what is taken.
#include <algorithm>
#include <cerrno>

#include "store/change.h"
#include "store/clock.h"
#include "store/metadata_log.h"
#include "store/name_times.h"
#include "store/store.h"

namespace refault::store {

using base::align_up;
using base::Code;
using base::Error;
using base::kPageBytes;
using base::MutexLock;

Status Store::allocate(InodeNo inode, FileRange range, Growth growth) {
    const auto attributes = stat(inode);
    if (!attributes) return attributes.error();
    if (attributes->type != FileType::Regular)
        return Error(Code::Invalid, "only files have space", ENODEV);
    if (range.end() > kFileBytesMax)
        return Error(Code::NoSpace, "no pool has room for such a file", EFBIG);
    const auto size = attributes->size_bytes;
    const bool grows = range.end() > size && growth == Growth::GrowSize;
    if (!grows && range.end() > align_up(size, kPageBytes))
        return Error(Code::NotSupported, "a file has no space beyond its size");
    if (grows) RETURN_IF_ERROR(zero_tail(inode, size));
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr) return Error(Code::NotFound, "the file is gone", ESTALE);
    const FileRange pages(base::align_down(range.begin(), kPageBytes),
                          align_up(range.end(), kPageBytes));
    return fill_locked(*node, pages, grows ? range.end() : size);
}

//   range      [--------------------)
//   pages   |=====|=====|=====|=====|=====|
//   zeroed     [--)              [--)          in place, on all copies
//   dropped       [=====|=====|==)             the last page of the file as a whole
Status Store::deallocate(InodeNo inode, FileRange range) {
    const auto attributes = stat(inode);
    if (!attributes) return attributes.error();
    if (attributes->type != FileType::Regular)
        return Error(Code::Invalid, "only files have space", ENODEV);
    const auto size = attributes->size_bytes;
    if (range.begin() >= size || range.empty()) return {};
    range =
        FileRange(range.begin(), range.end() >= size ? align_up(size, kPageBytes) : range.end());
    const auto first = align_up(range.begin(), kPageBytes);
    const auto last = base::align_down(range.end(), kPageBytes);
    if (first > last) return zero_part_of_page(inode, range);
    RETURN_IF_ERROR(zero_part_of_page(inode, FileRange(range.begin(), first)));
    RETURN_IF_ERROR(zero_part_of_page(inode, FileRange(last, range.end())));
    Change change;
    {
        MutexLock lock(mutex_);
        const auto* node = state_->inode(inode);
        if (node == nullptr) return Error(Code::NotFound, "the file is gone", ESTALE);
        const FileRange whole(first, last);
        for (const auto& extent : node->extents.overlapping(inode, whole)) {
            change.operations.push_back(op::CutExtent{extent});
            change.freed.push_back({extent.device, extent.device_range()});
        }
        if (!node->lost.overlapping(whole).empty())
            change.operations.push_back(op::ClearLost{inode, first, last});
        change.operations.push_back(modified_at(*node, now_ns()));
        close_emptied_locked(change);
        RETURN_IF_ERROR(commit_locked(change));
    }
    base::discard(vacate(std::move(change)),
                  "the range is a hole; the space is found again when the pool is opened");
    return {};
}

// What is lost stays lost when only a part of its page is zeroed.
Status Store::zero_part_of_page(InodeNo inode, FileRange range) const {
    if (range.empty() || !lost(inode, range).empty()) return {};
    return zero_part(inode, range);
}

Result<std::uint64_t> Store::next_data(InodeNo inode, std::uint64_t offset) const {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr) return Error(Code::NotFound, "the file is gone", ESTALE);
    const Error none(Code::NotFound, "there is no data behind the offset", ENXIO);
    const auto size = node->attributes.size_bytes;
    if (offset >= size) return none;
    const auto found = node->extents.next(offset);
    auto at = found.value_or(size);
    if (const auto lost = node->lost.overlapping(FileRange(offset, size)); !lost.empty())
        at = std::min(at, lost.front().range.begin());
    if (at >= size) return none;
    return std::max(at, offset);
}

Result<std::uint64_t> Store::next_hole(InodeNo inode, std::uint64_t offset) const {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr) return Error(Code::NotFound, "the file is gone", ESTALE);
    const auto size = node->attributes.size_bytes;
    if (offset >= size) return Error(Code::NotFound, "the offset lies behind the end", ENXIO);
    // What is lost may be longer than the pool; it is passed over as a whole, as extents are.
    const auto lost = node->lost.overlapping(FileRange(offset, size));
    auto next = lost.begin();
    for (auto at = offset; at < size;) {
        while (next != lost.end() && next->range.end() <= at) ++next;
        if (const auto end = node->extents.end_of(at); end > at)
            at = end;
        else if (next != lost.end() && next->range.begin() <= at)
            at = next->range.end();
        else
            return at;
    }
    return size;
}

}  // namespace refault::store
