// Recovering parts of files.
#include "failure/recovery.h"

#include <algorithm>

#include "base/log.h"
#include "base/range_set.h"
#include "failure/recovery_fence.h"
#include "store/extent_map.h"

namespace refault::failure {

using base::Code;
using base::DeviceRange;
using base::Error;
using base::FileRange;
using base::InodeNo;
using base::MutexLock;
using store::Extent;
using store::OnLoss;

namespace {
// What is held in memory while it is repaired.
constexpr std::uint64_t kPieceBytes = 4ull << 20;
}  // namespace

void Recovery::describe(const Extent& extent, FailedPart& report) const {
    report.inode = extent.inode;
    report.paths = store_.paths_of(extent.inode);
    report.file_range = extent.file_range();
    report.replica = extent.replica;
    report.device_range = extent.device_range();
    const auto spanning = registry_.spanning(extent.inode, extent.file_range());
    for (const auto& one : spanning) report.spanning.push_back(one.session->cred().pid);
    report.was_open = !spanning.empty() || store_.is_open(extent.inode);
}

void Recovery::notify_early(InodeNo inode, FileRange range, wire::Answer what) {
    for (const auto& one : registry_.spanning(inode, range)) {
        if (!one.session->wants_early_notice()) continue;
        one.session->tell(wire::Notice{one.addresses.begin(), one.addresses.length(), what});
        book_.signalled(inode, one.range, one.session->cred().pid, one.addresses.begin(), "notice");
    }
}

void Recovery::hold_back_writers(const Extent& primary, FileRange range, FailedPart& report) {
    const auto attributes = store_.stat(primary.inode);
    if (attributes && attributes->on_loss == OnLoss::Rollback) return;
    for (const auto& held : registry_.suspend(primary.inode, range)) {
        report.suspended.push_back(held.session->cred().pid);
        if (!held.session->wants_early_notice()) continue;
        held.session->tell(
            wire::Notice{held.addresses.begin(), held.addresses.length(), wire::Answer::Stale});
    }
}

bool Recovery::is_memory_gone(const Extent& extent) const {
    auto device = store_.device(extent.device);
    if (!device) return false;
    const auto segment = (*device)->segment_at(extent.device_offset);
    return (*device)->probe_segment(segment).missing.overlaps(extent.device_range());
}

bool Recovery::is_worn_out(base::DeviceId device, DeviceRange range) const {
    MutexLock lock(mutex_);
    const auto of_device = failures_.find(device);
    if (of_device == failures_.end()) return false;
    for (auto at = range.begin(); at < range.end(); at += base::kPageBytes) {
        const auto known = of_device->second.find(at);
        if (known != of_device->second.end() && known->second + 1 >= kRetireAfter) return true;
    }
    return false;
}

void Recovery::count_failure(base::DeviceId device, DeviceRange range) {
    MutexLock lock(mutex_);
    auto& of_device = failures_[device];
    for (auto at = range.begin(); at < range.end(); at += base::kPageBytes)
        if (const auto count = ++of_device[at]; count >= kRetireAfter)
            retired_.push_back({device, DeviceRange::of_length(at, base::kPageBytes), count});
}

std::vector<RetiredRange> Recovery::retired() const {
    MutexLock lock(mutex_);
    return retired_;
}

// Each page from the first copy that can be read; they lie in pieces of their own:
//
//   bad      [================)
//   copies   [=== b ===)[= c =)
//
// Nothing when a page of it has no such copy.
std::optional<std::vector<std::uint8_t>> Recovery::bytes_of_copies(
    const Extent& bad, std::span<const Extent> copies) const {
    std::vector<std::uint8_t> bytes(bad.length);
    base::RangeSet read;
    for (const auto& copy : copies) {
        auto device = store_.device(copy.device);
        if (!device) continue;
        for (const auto wanted : read.gaps(copy.file_range())) {
            const auto into = [&](FileRange part) {
                return std::span(bytes).subspan(part.begin() - bad.file_offset, part.length());
            };
            const auto from = [&](FileRange part) {
                return copy.device_offset + (part.begin() - copy.file_offset);
            };
            if ((*device)->read(from(wanted), into(wanted))) {
                read.add(wanted);
                continue;
            }
            for (auto at = wanted.begin(); at < wanted.end(); at += base::kPageBytes) {
                const auto page = FileRange::of_length(at, base::kPageBytes);
                if ((*device)->read(from(page), into(page))) read.add(page);
            }
        }
    }
    if (!read.gaps(bad.file_range()).empty()) return std::nullopt;
    return bytes;
}

// The hole drops the bad memory. `bytes` that are not there yet are read then: until the hole is
// there, somebody may be reading what is bad. False when it is not repaired, and nobody can have
// seen the hole.
Result<bool> Recovery::repair_in_place(const Extent& bad, std::span<const Extent> copies,
                                       std::optional<std::vector<std::uint8_t>>& bytes,
                                       std::uint64_t record) {
    auto device = store_.device(bad.device);
    if (!device || is_memory_gone(bad) || !faults_.pass(FaultPoint::RecoverRepair)) return false;
    RETURN_IF_ERROR(store_.begin_repair(bad));
    if (!(*device)->punch(bad.device_range())) return false;
    book_.part_unmapped(record);
    if (!bytes) bytes = bytes_of_copies(bad, copies);
    if (!bytes || is_memory_gone(bad) || !faults_.pass(FaultPoint::RecoverFill) ||
        !(*device)->write(bad.device_offset, *bytes) || !(*device)->sync(bad.device_range()))
        return false;
    RETURN_IF_ERROR(store_.end_repair(bad));
    return true;
}

Result<bool> Recovery::drop_part(const Part& part, FailedPart& report, bool stays_taken) {
    RETURN_IF_ERROR(faults_.pass(FaultPoint::RecoverDrop));
    // What is in no record of the book has not failed.
    const auto lost_as = part.record == 0 ? std::nullopt : std::optional(part.kind);
    const auto dropped = store_.drop_copies(std::span(&part.extent, 1), lost_as);
    if (!dropped) return dropped.error();
    report.outcome = part.extent.replica == 0 ? Outcome::Promoted : Outcome::CopyDropped;
    // The file was changed before it was fenced: nothing of it is there any more.
    if (dropped->empty()) return false;
    const auto& done = dropped->front();
    for (const auto range : done.promoted) hold_back_writers(part.extent, range, report);
    const store::Move dropped_move{part.extent, {}, 0, {}};
    if (stays_taken)
        mover_.retire(dropped_move);
    else
        mover_.release_later({dropped_move});
    report.lost = done.lost;
    report.may_be_older = !done.promoted.empty() && may_be_older(part.extent.inode, report);
    if (!done.lost.empty()) report.outcome = Outcome::Lost;
    return true;
}

// The copy may lack stores, and nobody is held back for it: their writer has ended.
bool Recovery::may_be_older(InodeNo inode, const FailedPart& report) const {
    return store_.is_unsynced(inode) &&
           (!report.suspended.empty() || !registry_.has_writers(inode));
}

// The caller holds the fence and the layout lock.
Status Recovery::recover_part(const Part& part, FailedPart& report, bool& is_to_split) {
    const auto& bad = part.extent;
    const bool is_retired = is_worn_out(bad.device, bad.device_range());
    auto copies = store_.extents(bad.inode, bad.file_range());
    std::erase_if(copies, [&](const Extent& copy) { return copy.replica == bad.replica; });
    // Of several pages none is given up before it is known that another copy of it can be read. A
    // single one is bad anyway.
    std::optional<std::vector<std::uint8_t>> bytes;
    const bool has_pages = bad.length > base::kPageBytes;
    if (has_pages || is_retired) bytes = bytes_of_copies(bad, copies);
    if (has_pages && !bytes && !copies.empty()) {
        is_to_split = true;
        return {};
    }
    bool is_repaired = false;
    if (!is_retired && !copies.empty()) {
        const auto done = repair_in_place(bad, copies, bytes, part.record);
        if (!done) return done.error();
        is_repaired = *done;
    }
    if (is_repaired) {
        if (bad.replica == 0) {
            hold_back_writers(bad, bad.file_range(), report);
            report.may_be_older = may_be_older(bad.inode, report);
        }
        report.outcome = Outcome::Repaired;
        count_failure(bad.device, bad.device_range());
        return {};
    }
    // A retired page is never handed out again: its space stays taken. A copy that cannot be read
    // either is none.
    if (!bytes) bytes = bytes_of_copies(bad, copies);
    if (bytes || is_retired || is_memory_gone(bad)) {
        if (const auto dropped = drop_part(part, report, is_retired); !dropped)
            return dropped.error();
    } else {
        RETURN_IF_ERROR(faults_.pass(FaultPoint::RecoverMarkLost));
        RETURN_IF_ERROR(store_.mark_lost(bad, part.kind));
        report.outcome = Outcome::Lost;
        report.lost = {bad.file_range()};
    }
    count_failure(bad.device, bad.device_range());
    if (auto device = store_.device(bad.device))
        base::discard((*device)->punch(bad.device_range()),
                      "memory that cannot even be dropped is not handed out any more");
    book_.part_unmapped(part.record);
    return {};
}

// What is lost already is not lost twice.
void Recovery::add_unless_lost(const Extent& extent, std::vector<Extent>& parts) const {
    base::RangeSet open;
    open.add(extent.file_range());
    for (const auto& lost : store_.lost(extent.inode, extent.file_range()))
        if (lost.kind != FailureKind::UnderRepair) open.subtract(lost.range);
    for (const auto part : open.parts())
        for (auto at = part.begin(); at < part.end(); at += kPieceBytes)
            parts.push_back(cut_to(extent, FileRange(at, std::min(at + kPieceBytes, part.end()))));
}

std::vector<Extent> Recovery::held_parts(const Extent& extent) const {
    auto parts = store_.extents(extent.inode, extent.file_range());
    std::erase_if(parts, [&](const Extent& part) {
        return part.replica != extent.replica || part.device != extent.device ||
               part.device_offset - extent.device_offset != part.file_offset - extent.file_offset;
    });
    return parts;
}

bool Recovery::is_held(const Extent& extent) const {
    const auto parts = held_parts(extent);
    return parts.size() == 1 && parts.front().length == extent.length;
}

Status Recovery::recover_extent(const Extent& extent, FailureKind kind, std::uint64_t record) {
    FailedPart report;
    bool is_to_split = false;
    bool has_changed = false;
    RETURN_IF_ERROR(faults_.pass(FaultPoint::RecoverFence));
    {
        // No store, and no persist into any copy, between the reading of the bytes that are good
        // and their coming in the place of the bad ones: it would be answered for, and be gone.
        Fenced fenced(*this, {{extent.inode, extent.file_range()}}, session::kAllLayers,
                      session::WriteBarrier::Stop::Refill);
        if (!fenced.has(extent.inode, extent.file_range()))
            return Error(Code::Busy, "a range that failed is locked by another operation");
        has_changed = !is_held(extent);
        if (!has_changed)
            RETURN_IF_ERROR(recover_part({extent, kind, record}, report, is_to_split));
        if (!has_changed && !is_to_split &&
            (report.outcome != Outcome::Repaired || !report.suspended.empty()))
            fenced.set_moved(session::kAllLayers);
    }
    if (has_changed) {
        Status result;
        for (const auto& part : held_parts(extent))
            if (const auto done = recover_extent(part, kind, record); !done) result = done;
        return result;
    }
    if (is_to_split) return recover_pages(extent, kind, record);
    // Also of what was repaired where it is: who goes on with it has read it anew.
    registry_.page_cache().drop(extent.inode, extent.file_range());
    // What can be found out later is: until here, somebody waits.
    describe(extent, report);
    // Before anybody is told: that is noted on the part.
    const bool is_lost = report.outcome == Outcome::Lost;
    book_.add_part(record, std::move(report));
    if (is_lost) notify_early(extent.inode, extent.file_range(), wire::Answer::Lost);
    return {};
}

// Each by itself: what one page of it has lost, the others need not lose.
Status Recovery::recover_pages(const Extent& extent, FailureKind kind, std::uint64_t record) {
    Status result;
    for (auto at = extent.file_offset; at < extent.file_range().end(); at += base::kPageBytes) {
        const auto page = cut_to(extent, FileRange::of_length(at, base::kPageBytes));
        if (const auto done = recover_extent(page, kind, record); !done) result = done;
    }
    return result;
}

Status Recovery::recover_metadata(DeviceRange range, std::uint64_t record) {
    RETURN_IF_ERROR(faults_.pass(FaultPoint::RecoverMetadata));
    RETURN_IF_ERROR(store_.rewrite_metadata());
    FailedPart report;
    report.paths = {"(metadata)"};
    report.device_range = range;
    report.outcome = Outcome::Metadata;
    book_.add_part(record, std::move(report));
    return {};
}

Status Recovery::recover_range(base::DeviceId id, DeviceRange range, FailureKind kind,
                               std::uint64_t record, std::vector<DeviceRange>& left) {
    std::vector<DeviceRange> metadata;
    std::vector<Extent> parts;
    for (const auto& located : store_.locate(id, range)) {
        if (located.is_metadata) {
            metadata.push_back(located.device_range);
            continue;
        }
        const Extent extent{located.inode,
                            located.file_range.begin(),
                            id,
                            located.device_range.begin(),
                            located.file_range.length(),
                            located.replica};
        add_unless_lost(extent, parts);
    }
    Status result;
    for (const auto& extent : parts)
        if (const auto done = recover_extent(extent, kind, record); !done) {
            left.push_back(extent.device_range());
            result = done;
        }
    if (metadata.empty()) return result;
    if (const auto done = recover_metadata(range, record); !done) {
        left.push_back(metadata.front());
        result = done;
    }
    return result;
}

Status Recovery::recover_ranges(base::DeviceId id, std::vector<DeviceRange>& ranges,
                                FailureKind kind, std::uint64_t record) {
    Status result;
    std::vector<DeviceRange> left;
    for (const auto range : ranges)
        if (const auto done = recover_range(id, range, kind, record, left); !done) result = done;
    ranges = std::move(left);
    if (ranges.empty()) book_.unmapped(record);
    return result;
}

}  // namespace refault::failure
