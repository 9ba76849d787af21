// Resizing, reading and writing with fences and layout locks.
#include "session/file_service.h"

#include <algorithm>

namespace refault::session {

using base::align_up;
using base::kPageBytes;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {
// How long a shrink waits until the mappings of what it cuts off are gone.
constexpr milliseconds kLetGoPatience{2000};
// How long a growing resize waits for the mappings that reach into the new part.
constexpr milliseconds kPlacePatience{1000};
FileRange whole_pages(FileRange range) {
    return {base::align_down(range.begin(), kPageBytes), align_up(range.end(), kPageBytes)};
}

// The pages that lie in the range as a whole.
FileRange pages_inside(FileRange range) {
    const auto begin = align_up(range.begin(), kPageBytes);
    return {begin, std::max(begin, base::align_down(range.end(), kPageBytes))};
}

}  // namespace

Status FileService::resize(InodeNo inode, std::uint64_t size_bytes) {
    for (;;) {
        auto attributes = store_.stat(inode);
        if (!attributes) return attributes.error();
        const auto old_size_bytes = attributes->size_bytes;
        auto is_done = size_bytes < old_size_bytes ? shrink(inode, old_size_bytes, size_bytes)
                                                   : grow(inode, old_size_bytes, size_bytes);
        if (!is_done) return is_done.error();
        if (*is_done) return {};
    }
}

void FileService::note_copies_missing(InodeNo inode) const {
    const auto attributes = store_.stat(inode);
    if (copies_missing_ && attributes && attributes->replicas > 1) copies_missing_();
}

bool FileService::has_size(InodeNo inode, std::uint64_t size_bytes) const {
    const auto attributes = store_.stat(inode);
    return attributes && attributes->size_bytes == size_bytes;
}

// A page that holds both kept and cut bytes stays mapped:
//
//   old    [=====|=====|===)          page borders |
//   new    [=====|==)
//   cut          kept  [-----)        from the first page that goes as a whole
//
// The cut pages are taken out of every mapping first: their space may belong to another file as
// soon as the store has it. Before that every client is asked whether it answers, by handing out
// what it has already: a shrink that is refused for a client that is stopped has taken nothing from
// the others.
Result<bool> FileService::shrink(InodeNo inode, std::uint64_t old_size_bytes,
                                 std::uint64_t size_bytes) {
    const FileRange cut(align_up(size_bytes, kPageBytes), align_up(old_size_bytes, kPageBytes));
    const auto deadline = steady_clock::now() + kLetGoPatience;
    const base::Error silent(
        base::Code::Busy,
        "the file is mapped by a process that does not answer (stopped?); it keeps its size, see: "
        "refault maps");
    registry_.mark_stale(inode, cut);
    if (!registry_.wait_until_placed(inode, cut, deadline)) return silent;
    registry_.conceal(inode, cut);
    const bool let_go = registry_.wait_until_placed(inode, cut, deadline);
    bool is_current = false;
    Status resized;
    if (let_go) {
        auto layout = store_.lock_layout(inode);
        is_current = has_size(inode, old_size_bytes);
        if (is_current) resized = store_.resize(inode, size_bytes);
    }
    registry_.reveal(inode, cut, is_current && resized.ok());
    if (is_current && resized) registry_.end_suspension(inode, cut);
    if (!let_go) return silent;
    if (!resized) return resized.error();
    return is_current;
}

Result<bool> FileService::grow(InodeNo inode, std::uint64_t old_size_bytes,
                               std::uint64_t size_bytes) {
    {
        auto layout = store_.lock_layout(inode);
        if (!has_size(inode, old_size_bytes)) return false;
        RETURN_IF_ERROR(store_.resize(inode, size_bytes));
    }
    note_copies_missing(inode);
    const FileRange added(base::align_down(old_size_bytes, kPageBytes),
                          align_up(size_bytes, kPageBytes));
    const auto users = registry_.users_of(inode);
    if (users.empty() || added.empty()) return true;
    for (const auto& user : users) RETURN_IF_ERROR(make_mappable(inode, user));
    const FileRange added_pages(align_up(old_size_bytes, kPageBytes), added.end());
    registry_.mark_stale(inode, added_pages);
    // The new part has all of its copies at once, also those of which no mapping was told yet
    // because the file had nothing to be copied.
    if (const auto attributes = store_.stat(inode); attributes && attributes->replicas > 1)
        registry_.mark_stale(inode, added_pages, layer_mask(attributes->replicas) - 1);
    // Who stores into the new part right after this call finds it there; a client that is stopped
    // finds it later.
    (void)registry_.wait_until_placed(inode, added, steady_clock::now() + kPlacePatience);
    return true;
}

// A store into a mapping must never find the pool full.
Status FileService::fill_holes(InodeNo inode) {
    bool has_filled = false;
    {
        auto layout = store_.lock_layout(inode);
        const auto before = store_.stat(inode);
        if (!before) return before.error();
        RETURN_IF_ERROR(store_.allocate(inode, FileRange(0, before->size_bytes)));
        const auto after = store_.stat(inode);
        has_filled = after && after->allocated_bytes != before->allocated_bytes;
    }
    if (has_filled) note_copies_missing(inode);
    return {};
}

Status FileService::make_mappable(InodeNo inode, const base::Cred& who) {
    RETURN_IF_ERROR(fill_holes(inode));
    if (who.uid == 0) return {};
    for (const auto& extent : store_.extents(inode, FileRange(0, UINT64_MAX))) {
        auto device = store_.device(extent.device);
        if (!device) return device.error();
        auto owner =
            store_.segment_owner(extent.device, (*device)->segment_at(extent.device_offset));
        if (!owner) return owner.error();
        if (owner->kind == store::SegmentOwner::Kind::SharedByUser && owner->uid != who.uid)
            return isolator_.isolate(inode);
    }
    return {};
}

Result<std::size_t> FileService::read(InodeNo inode, std::uint64_t offset,
                                      std::span<std::uint8_t> into) {
    auto layout = store_.lock_layout(inode);
    return store_.read(inode, offset, into);
}

Result<std::size_t> FileService::write(InodeNo inode, std::uint64_t offset,
                                       std::span<const std::uint8_t> from) {
    if (offset + from.size() < offset)
        return base::Error(base::Code::Invalid, "the write would end beyond 2^64");
    auto attributes = store_.stat(inode);
    if (!attributes) return attributes.error();
    while (offset + from.size() > attributes->size_bytes) {
        auto is_done = grow(inode, attributes->size_bytes, offset + from.size());
        if (!is_done) return is_done.error();
        if (attributes = store_.stat(inode); !attributes) return attributes.error();
    }
    const auto range = FileRange::of_length(offset, from.size());
    const bool heals = !store_.lost(inode, range).empty();
    Result<std::size_t> written = std::size_t{0};
    {
        auto layout = store_.lock_layout(inode);
        if (heals)
            if (const auto healed = store_.heal(inode, range); !healed) return healed.error();
        written = store_.write(inode, offset, from);
    }
    if (written && !from.empty()) registry_.end_suspension(inode, pages_inside(range));
    if (heals) {
        registry_.mark_stale(inode, whole_pages(range));
        note_copies_missing(inode);
    }
    return written;
}

Status FileService::punch(InodeNo inode, std::uint64_t offset, std::uint64_t length) {
    if (offset % kPageBytes != 0 || length % kPageBytes != 0 || offset + length < offset)
        return base::Error(base::Code::Invalid, "punch whole pages of 4096 bytes");
    const auto range = FileRange::of_length(offset, length);
    {
        auto layout = store_.lock_layout(inode);
        RETURN_IF_ERROR(store_.heal(inode, range));
        RETURN_IF_ERROR(store_.punch(inode, range));
    }
    registry_.end_suspension(inode, range);
    registry_.mark_stale(inode, range);
    note_copies_missing(inode);
    return {};
}

}  // namespace refault::session
