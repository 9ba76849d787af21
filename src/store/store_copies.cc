// Copies: where they may lie, making missing ones, dropping those that failed.
//
//   file       0 .......... 8M ......... 16M
//   primary    [==== a ====)[==== b ====)
//   replica 1  [=== b ===)[====== c ====)      same bytes, never the same device
//
//   a fails:   replica 1 is renumbered to 0 where a was; the range has one copy until the resync
//   makes another. Primaries therefore cover every byte that is not lost.
#include <algorithm>
#include <chrono>
#include <thread>

#include "base/log.h"
#include "base/range_set.h"
#include "store/change.h"
#include "store/clock.h"
#include "store/move_book.h"
#include "store/move_plan.h"
#include "store/placement.h"
#include "store/state.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::kPageBytes;
using base::MutexLock;

std::vector<std::pair<FileRange, DeviceSet>> Store::taken_devices_locked(
    InodeNo inode, FileRange range, std::uint32_t replica, std::span<const Extent> planned) const {
    std::vector<Extent> others;
    const auto note = [&](const Extent& extent) {
        if (extent.replica != replica && extent.file_range().overlaps(range))
            others.push_back(extent);
    };
    if (const auto* node = state_->inode(inode))
        for (const auto& extent : node->extents.overlapping(inode, range)) note(extent);
    for (const auto& extent : moves_->targets_of(inode, range)) note(extent);
    for (const auto& extent : planned) note(extent);
    std::set<std::uint64_t> borders{range.end()};
    for (const auto& extent : others)
        for (const auto at : {extent.file_range().begin(), extent.file_range().end()})
            if (range.contains(at)) borders.insert(at);
    std::vector<std::pair<FileRange, DeviceSet>> parts;
    auto begin = range.begin();
    for (const auto end : borders) {
        if (end == begin) continue;
        DeviceSet devices;
        for (const auto& extent : others)
            if (extent.file_range().overlaps(FileRange(begin, end))) devices.insert(extent.device);
        if (!parts.empty() && parts.back().second == devices)
            parts.back().first = FileRange(parts.back().first.begin(), end);
        else
            parts.emplace_back(FileRange(begin, end), std::move(devices));
        begin = end;
    }
    return parts;
}

Result<Store::CopyPlan> Store::reserve_copies(InodeNo inode, std::uint64_t piece_bytes_max) {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr)
        return Error(Code::NotFound, "there is no file with inode " + std::to_string(inode.raw()));
    CopyPlan result;
    const auto all = node->extents.overlapping(inode, FileRange(0, UINT64_MAX));
    for (const auto& extent : all)
        if (extent.replica >= node->attributes.replicas) result.surplus.push_back(extent);
    for (std::uint32_t replica = 1; replica < node->attributes.replicas; ++replica) {
        base::RangeSet present;
        for (const auto& extent : all)
            if (extent.replica == replica) present.add(extent.file_range());
        for (const auto& coming : moves_->targets_of(inode, FileRange(0, UINT64_MAX)))
            if (coming.replica == replica) present.add(coming.file_range());
        for (const auto& lost : node->lost.all()) present.add(lost.range);
        std::vector<Extent> missing;
        for (const auto& extent : all) {
            if (extent.replica != 0) continue;
            for (const auto gap : present.gaps(extent.file_range())) {
                auto part = extent;
                part.device_offset += gap.begin() - extent.file_offset;
                part.file_offset = gap.begin();
                part.length = gap.length();
                missing.push_back(part);
            }
        }
        MovePlan plan;
        plan.copy_as = replica;
        plan_moves_locked(missing, std::nullopt, piece_bytes_max, plan);
        result.short_bytes += plan.wanted_bytes - plan.placed_bytes;
        result.moves.insert(result.moves.end(), plan.moves.begin(), plan.moves.end());
    }
    return result;
}

// The part of the primary that another copy covers is renumbered, the rest is lost.
void Store::drop_copy_locked(const Extent& copy, FailureKind kind, Change& change,
                             Dropped& dropped) {
    change.operations.push_back(op::CutExtent{copy});
    const auto* node = state_->inode(copy.inode);
    std::vector<LostRange> lost_before;
    for (const auto& lost : node->lost.overlapping(copy.file_range()))
        if (copy.replica == 0 && lost.kind == FailureKind::UnderRepair)
            change.operations.push_back(
                op::ClearLost{copy.inode, lost.range.begin(), lost.range.end()});
        else
            lost_before.push_back(lost);
    if (failed_devices_.contains(copy.device)) {
        // What was lost on it before has no bytes there that could come back with it.
        base::RangeSet valid;
        valid.add(copy.file_range());
        if (copy.replica == 0)
            for (const auto& lost : node->lost.overlapping(copy.file_range()))
                valid.subtract(lost.range);
        for (const auto part : valid.parts())
            change.operations.push_back(op::NoteAbsent{cut_to(copy, part)});
    }
    if (copy.replica != 0) return;
    base::RangeSet open;
    open.add(copy.file_range());
    // What was lost before on bad memory stays as it was recorded.
    for (const auto& lost : lost_before) open.subtract(lost.range);
    for (const auto& other : node->extents.overlapping(copy.inode, copy.file_range())) {
        if (other.replica == 0) continue;
        for (const auto part : open.parts(other.file_range())) {
            auto heir = other;
            heir.device_offset += part.begin() - other.file_offset;
            heir.file_offset = part.begin();
            heir.length = part.length();
            change.operations.push_back(op::RenumberExtent{heir, 0});
            // Somebody may have stored there what this copy lacks.
            if (node->is_unsynced)
                change.operations.push_back(
                    op::SetTakenOver{copy.inode, part.begin(), part.end(), true});
            dropped.promoted.push_back(part);
        }
        open.subtract(other.file_range());
    }
    for (const auto part : open.parts()) {
        change.operations.push_back(
            op::MarkLost{copy.inode,
                         {part, kind, copy.device,
                          copy.device_offset + (part.begin() - copy.file_offset), now_ns()}});
        dropped.lost.push_back(part);
    }
}

Result<std::vector<Store::Dropped>> Store::drop_copies(std::span<const Extent> copies,
                                                       std::optional<FailureKind> lost_as) {
    MutexLock lock(mutex_);
    std::vector<Dropped> all;
    Change change;
    // One at a time where a file loses two copies of the same bytes: the second sees what the
    // first has left.
    for (const auto& copy : copies) {
        const auto* node = state_->inode(copy.inode);
        if (node == nullptr || !node->extents.holds(copy)) continue;
        // Nobody's loss, so it was too many; more may be asked for by now.
        if (!lost_as && copy.replica < node->attributes.replicas) continue;
        Dropped dropped{copy, {}, {}};
        drop_copy_locked(copy, lost_as.value_or(FailureKind::PlannedRemoval), change, dropped);
        if (!lost_as && !dropped.lost.empty())
            return Error(Code::Invalid, "the last copy of a part of " +
                                            state_->path_of(copy.inode) + " would be dropped");
        if (auto done = append_and_apply_locked(change); !done) {
            if (!failed_devices_.contains(copy.device)) return done.error();
            // No device is left that takes metadata. Programs must hear of the loss all the same.
            for (const auto& operation : change.operations) CHECK(state_->apply(operation).ok());
        }
        moves_->retire(copy);
        change = {};
        all.push_back(std::move(dropped));
    }
    checkpoint_if_due_locked();
    return all;
}

Status Store::set_unsynced(InodeNo inode, bool is_unsynced) {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr || node->is_unsynced == is_unsynced) return {};
    Change change;
    change.operations = {op::SetUnsynced{inode, is_unsynced}};
    return commit_locked(change);
}

namespace {

std::optional<Store::Attention> attention_of(InodeNo number, const Inode& node) {
    if (!node.has_bytes()) return std::nullopt;
    std::uint64_t bytes = 0;
    std::uint64_t good_bytes = 0;  // of the primaries
    bool has_surplus = false;
    for (const auto& extent : node.extents.overlapping(number, FileRange(0, UINT64_MAX))) {
        auto good = extent.length;
        // Bad memory under what is lost is no copy.
        for (const auto& lost : node.lost.overlapping(extent.file_range()))
            good -= lost.range.length();
        bytes += good;
        if (extent.replica == 0) good_bytes += good;
        has_surplus = has_surplus || extent.replica >= node.attributes.replicas;
    }
    const auto wanted = good_bytes * node.attributes.replicas;
    const auto missing = wanted > bytes ? wanted - bytes : 0;
    if (missing == 0 && !has_surplus && !node.is_unsynced) return std::nullopt;
    return Store::Attention{number, node.is_unsynced, missing};
}

}  // namespace

// One slice of the inodes after the other: who has a failure to deal with does not wait for a look
// at all of them. What changes behind the slice is seen in the next round.
std::vector<Store::Attention> Store::files_that_need_attention() const {
    constexpr std::size_t kSliceBuckets = 1024;
    // A lock that is taken again at once is never had by who waits for it.
    constexpr std::chrono::microseconds kPause{20};
    std::vector<Attention> files;
    for (std::size_t bucket = 0, buckets = 0;;) {
        {
            MutexLock lock(mutex_);
            const auto& inodes = state_->inodes();
            // The inodes have been sorted into other buckets: from the beginning.
            if (inodes.bucket_count() != buckets) {
                buckets = inodes.bucket_count();
                bucket = 0;
                files.clear();
            }
            const auto end = std::min(bucket + kSliceBuckets, buckets);
            for (; bucket < end; ++bucket)
                for (auto at = inodes.begin(bucket); at != inodes.end(bucket); ++at)
                    if (const auto needed = attention_of(at->first, at->second))
                        files.push_back(*needed);
            if (bucket == buckets) return files;
        }
        std::this_thread::sleep_for(kPause);
    }
}

std::vector<std::pair<InodeNo, std::uint64_t>> Store::files() const {
    MutexLock lock(mutex_);
    std::vector<std::pair<InodeNo, std::uint64_t>> all;
    for (const auto& [number, node] : state_->inodes())
        if (node.has_bytes()) all.emplace_back(number, node.attributes.size_bytes);
    std::sort(all.begin(), all.end());
    return all;
}

bool Store::is_unsynced(InodeNo inode) const {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    return node != nullptr && node->is_unsynced;
}

void Store::set_held(DeviceId device, SegmentNo segment, bool is_held) {
    MutexLock lock(mutex_);
    if (devices_.contains(device) && allocator_->owner({device, segment}))
        allocator_->set_held({device, segment}, is_held);
}

void Store::set_failed(DeviceId device) {
    MutexLock lock(mutex_);
    if (!devices_.contains(device)) return;
    failed_devices_.insert(device);
    allocator_->set_leaving(device, true);
}

void Store::set_media_error_sink(MediaErrorSink sink) {
    MutexLock lock(mutex_);
    media_error_sink_ = std::move(sink);
}

void Store::report_media_error(DeviceId device, DeviceRange range, MediaAccess access,
                               const Error& error) const {
    MediaErrorSink sink;
    {
        MutexLock lock(mutex_);
        sink = media_error_sink_;
    }
    base::log_line(base::LogLevel::Error, error.message());
    if (sink) sink(device, range, access, error);
}

Status Store::rewrite_metadata() {
    MutexLock lock(mutex_);
    return checkpoint_locked(choose_copies_locked(std::nullopt), /*may_drop=*/true);
}

}  // namespace refault::store
