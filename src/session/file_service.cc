// Resizing, reading and writing with fences and layout locks.
#include "session/file_service.h"

#include <algorithm>
#include <array>

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

Result<store::LayoutLock> FileService::lock(InodeNo inode, const Caller& caller) {
    return store_.lock_layout_until(inode, store::Store::LayoutUse::Change, caller.deadline);
}

Status FileService::past_the_cache(InodeNo inode, FileRange range, const Caller& caller,
                                   const std::function<Status()>& change) {
    if (caller.is_mount) return change();
    auto& cache = registry_.page_cache();
    // What was stored through mappings before this call is older than what it does.
    RETURN_IF_ERROR(cache.settle(inode, range));
    const auto changed = change();
    const auto settled = cache.settle(inode, range);
    cache.forget_attributes(inode);
    return changed ? settled : changed;
}

Result<FileService::Claim> FileService::claim(InodeNo inode) {
    RETURN_IF_ERROR(registry_.page_cache().claim(inode));
    return Claim(registry_.page_cache(), inode);
}

void FileService::name_changed(const std::string& path) {
    const auto slash = path.rfind('/');
    if (slash == path.npos) return;
    const auto directory =
        store_.stat(slash == 0 ? "/" : path.substr(0, slash), base::Cred{0, 0, {}, 0});
    if (directory) registry_.page_cache().forget_name(directory->inode, path.substr(slash + 1));
}

Status FileService::resize(InodeNo inode, std::uint64_t size_bytes, Caller caller) {
    const auto attributes = store_.stat(inode);
    if (!attributes) return attributes.error();
    if (!caller.is_mount && attributes->size_bytes != size_bytes)
        RETURN_IF_ERROR(registry_.page_cache().may_resize(inode));
    const auto from = std::min(attributes->size_bytes, size_bytes);
    return past_the_cache(inode, FileRange(base::align_down(from, kPageBytes), UINT64_MAX), caller,
                          [&] { return resize_uncached(inode, size_bytes, caller); });
}

Status FileService::resize_uncached(InodeNo inode, std::uint64_t size_bytes, const Caller& caller) {
    for (;;) {
        auto attributes = store_.stat(inode);
        if (!attributes) return attributes.error();
        const auto old_size_bytes = attributes->size_bytes;
        auto is_done = size_bytes < old_size_bytes
                           ? shrink(inode, old_size_bytes, size_bytes, caller)
                           : grow(inode, old_size_bytes, size_bytes, caller);
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
                                 std::uint64_t size_bytes, const Caller& caller) {
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
        auto layout = lock(inode, caller);
        if (!layout) resized = layout.error();
        is_current = layout && has_size(inode, old_size_bytes);
        if (is_current) resized = store_.resize(inode, size_bytes);
    }
    registry_.reveal(inode, cut, is_current && resized.ok());
    if (is_current && resized) registry_.end_suspension(inode, cut);
    if (!let_go) return silent;
    if (!resized) return resized.error();
    return is_current;
}

Result<bool> FileService::grow(InodeNo inode, std::uint64_t old_size_bytes,
                               std::uint64_t size_bytes, const Caller& caller) {
    {
        auto layout = lock(inode, caller);
        if (!layout) return layout.error();
        if (!has_size(inode, old_size_bytes)) return false;
        RETURN_IF_ERROR(caller.allows_holes ? store_.set_size(inode, size_bytes)
                                            : store_.resize(inode, size_bytes));
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
        if (owner->kind == store::SegmentOwner::Kind::SharedByUser && owner->uid != who.uid) {
            if (move_gate_) RETURN_IF_ERROR(move_gate_());
            return isolator_.isolate(inode);
        }
    }
    return {};
}

Result<std::size_t> FileService::read(InodeNo inode, std::uint64_t offset,
                                      std::span<std::uint8_t> into, Caller caller) {
    if (!caller.is_mount)
        RETURN_IF_ERROR(registry_.page_cache().settle(
            inode, FileRange(offset, std::max(offset, offset + into.size()))));
    auto layout = store_.lock_layout_until(inode, store::Store::LayoutUse::Read, caller.deadline);
    if (!layout) return layout.error();
    return store_.read(inode, offset, into);
}

Result<std::size_t> FileService::write(InodeNo inode, std::uint64_t offset,
                                       std::span<const std::uint8_t> from, Caller caller) {
    if (offset + from.size() < offset)
        return base::Error(base::Code::Invalid, "the write would end beyond 2^64");
    if (!caller.is_mount)
        if (const auto now = store_.stat(inode); now && offset + from.size() > now->size_bytes)
            RETURN_IF_ERROR(registry_.page_cache().may_resize(inode));
    Result<std::size_t> written = std::size_t{0};
    RETURN_IF_ERROR(
        past_the_cache(inode, FileRange::of_length(offset, from.size()), caller, [&]() -> Status {
            written = write_uncached(inode, offset, from, caller);
            if (!written) return written.error();
            return {};
        }));
    return written;
}

Result<std::size_t> FileService::write_uncached(InodeNo inode, std::uint64_t offset,
                                                std::span<const std::uint8_t> from,
                                                const Caller& caller) {
    auto attributes = store_.stat(inode);
    if (!attributes) return attributes.error();
    const auto old_size_bytes = attributes->size_bytes;
    while (!caller.allows_holes && offset + from.size() > attributes->size_bytes) {
        auto is_done = grow(inode, attributes->size_bytes, offset + from.size(), caller);
        if (!is_done) return is_done.error();
        if (attributes = store_.stat(inode); !attributes) return attributes.error();
    }
    const auto range = FileRange::of_length(offset, from.size());
    const bool heals = !store_.lost(inode, range).empty();
    // What lies behind the end of the file is nobody's: its last page is whole up to there.
    const FileRange healed_range(range.begin(), range.end() >= old_size_bytes
                                                    ? align_up(range.end(), kPageBytes)
                                                    : range.end());
    Result<std::size_t> written = std::size_t{0};
    {
        auto layout = lock(inode, caller);
        if (!layout) return layout.error();
        if (heals)
            if (const auto healed = store_.heal(inode, healed_range); !healed)
                return healed.error();
        written = caller.allows_holes ? store_.write_growing(inode, offset, from)
                                      : store_.write(inode, offset, from);
    }
    if (caller.allows_holes && offset + from.size() > old_size_bytes) note_copies_missing(inode);
    if (written && !from.empty()) registry_.end_suspension(inode, pages_inside(range));
    if (heals) {
        registry_.mark_stale(inode, whole_pages(range));
        note_copies_missing(inode);
    }
    return written;
}

Status FileService::allocate(InodeNo inode, FileRange range, bool keeps_size, Caller caller) {
    using Growth = store::Store::Growth;
    const auto attributes = store_.stat(inode);
    if (!attributes) return attributes.error();
    if (!caller.allows_holes) {
        if (range.end() <= attributes->size_bytes) return {};
        if (keeps_size)
            return base::Error(base::Code::NotSupported,
                               "space behind the end of a file cannot be reserved");
        return resize(inode, range.end(), caller);
    }
    {
        auto layout = lock(inode, caller);
        if (!layout) return layout.error();
        RETURN_IF_ERROR(
            store_.allocate(inode, range, keeps_size ? Growth::KeepSize : Growth::GrowSize));
    }
    note_copies_missing(inode);
    return {};
}

// Where clients map the file its whole pages are punched, and what is left at both ends written:
//
//   pages   |-----|-----|-----|-----|
//   range      [==============)
//   edges      [--)           [-)
Status FileService::clear(InodeNo inode, FileRange range, Caller caller) {
    const auto pages = pages_inside(range);
    {
        auto layout = lock(inode, caller);
        if (!layout) return layout.error();
        if (caller.allows_holes) return store_.deallocate(inode, range);
        RETURN_IF_ERROR(clear_edges(inode, range, pages));
        if (pages.empty()) return {};
        RETURN_IF_ERROR(store_.heal(inode, pages));
        RETURN_IF_ERROR(store_.punch(inode, pages));
    }
    registry_.end_suspension(inode, pages);
    registry_.mark_stale(inode, pages);
    note_copies_missing(inode);
    return {};
}

Status FileService::clear_edges(InodeNo inode, FileRange range, FileRange pages) {
    static constexpr std::array<std::uint8_t, 2 * kPageBytes> kZeros{};
    const FileRange head(range.begin(),
                         pages.empty() ? range.end() : std::min(pages.begin(), range.end()));
    const FileRange tail(pages.empty() ? range.end() : pages.end(), range.end());
    for (const auto edge : {head, tail}) {
        const auto zeros = std::span(kZeros).first(std::min(edge.length(), kZeros.size()));
        if (zeros.empty()) continue;
        const auto written = store_.write(inode, edge.begin(), zeros);
        if (!written) return written.error();
    }
    return {};
}

Status FileService::punch(InodeNo inode, std::uint64_t offset, std::uint64_t length,
                          Caller caller) {
    if (offset % kPageBytes != 0 || length % kPageBytes != 0 || offset + length < offset)
        return base::Error(base::Code::Invalid, "punch whole pages of 4096 bytes");
    const auto range = FileRange::of_length(offset, length);
    return past_the_cache(inode, range, caller,
                          [&] { return punch_uncached(inode, range, caller); });
}

Status FileService::punch_uncached(InodeNo inode, FileRange range, const Caller& caller) {
    {
        auto layout = lock(inode, caller);
        if (!layout) return layout.error();
        RETURN_IF_ERROR(store_.heal(inode, range));
        RETURN_IF_ERROR(store_.punch(inode, range));
    }
    registry_.end_suspension(inode, range);
    registry_.mark_stale(inode, range);
    note_copies_missing(inode);
    return {};
}

}  // namespace refault::session
