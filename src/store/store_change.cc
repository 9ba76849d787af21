// From a change to the journal, to the state, and to free space.
#include <algorithm>

#include "base/log.h"
#include "store/change.h"
#include "store/clock.h"
#include "store/metadata_segments.h"
#include "store/name_times.h"
#include "store/state.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::log_line;
using base::LogLevel;
using base::MutexLock;

namespace {
constexpr std::uint32_t kReserveSegments = 2;
}  // namespace

Status Store::append_and_apply_locked(Change& change) {
    std::vector<Operation> operations;
    for (const auto inode : unsaved_times_)
        if (const auto* node = state_->inode(inode))
            operations.push_back(op::SetTimes{inode, node->attributes.accessed_ns,
                                              node->attributes.modified_ns,
                                              node->attributes.changed_ns});
    operations.insert(operations.end(), change.operations.begin(), change.operations.end());
    if (operations.empty() && unsaved_removals_.empty()) return {};
    if (is_metadata_lost_)
        return Error(Code::Io,
                     "every copy of the pool's metadata is lost, or no device has room for a new "
                     "one, so nothing can be changed; add a device, and it is written there");
    const auto record = [&] {
        mutex_.assert_held();
        std::vector<Operation> written;
        for (const auto inode : unsaved_removals_) written.push_back(op::RemoveInode{inode});
        written.insert(written.end(), operations.begin(), operations.end());
        return encode_operations(written);
    };
    auto appended = log_->append(record());
    if (!appended && appended.error().code() == Code::NoSpace) {
        // A checkpoint is shorter than the history that it replaces, and knows of the removals.
        RETURN_IF_ERROR(checkpoint_locked(choose_copies_locked(std::nullopt), /*may_drop=*/true));
        appended = log_->append(record());
    }
    if (!appended) {
        // The record may lie on a device all the same. Another epoch makes sure that no open finds
        // it.
        if (appended.error().code() != Code::NoSpace)
            base::discard(checkpoint_locked(choose_copies_locked(std::nullopt), /*may_drop=*/true),
                          "no device takes metadata any more, the first error says so");
        return appended;
    }
    for (const auto& operation : operations) {
        const auto applied = state_->apply(operation);
        if (!applied) log_line(LogLevel::Error, applied.error().message());
        CHECK(applied.ok());
    }
    unsaved_times_.clear();
    unsaved_removals_.clear();
    for (const auto& key : change.closing) allocator_->close(key);
    return {};
}

Status Store::commit_locked(Change& change) {
    RETURN_IF_ERROR(append_and_apply_locked(change));
    checkpoint_if_due_locked();
    return {};
}

void Store::checkpoint_if_due_locked() {
    const auto failed = log_->failed_copies().size();
    const bool has_lost_copy = failed > known_failed_copies_;
    known_failed_copies_ = failed;
    if (has_lost_copy) {
        log_line(LogLevel::Warning,
                 "a copy of the metadata failed; making another where a device can take it");
        checkpoint_retry_bytes_ = 0;
    }
    // A checkpoint needs fresh segments: on a full device it is written before the log takes the
    // last of the reserve.
    const auto copies = log_->copies();
    const bool is_tight =
        log_->log_bytes() > log_->checkpoint_bytes() &&
        std::any_of(copies.begin(), copies.end(), [&](DeviceId id) {
            mutex_.assert_held();
            return devices_.contains(id) && allocator_->free_segments(id) < allocator_->reserve();
        });
    const bool is_due =
        (log_->wants_checkpoint() || is_tight) && log_->log_bytes() >= checkpoint_retry_bytes_;
    if (!has_lost_copy && !is_due) return;
    const auto written = checkpoint_locked(choose_copies_locked(std::nullopt), /*may_drop=*/true);
    if (written) return;
    checkpoint_retry_bytes_ = 2 * log_->log_bytes();
    log_line(LogLevel::Warning,
             "the metadata log goes on without a checkpoint: " + written.error().message());
}

Status Store::checkpoint_locked(const std::vector<DeviceId>& ids, bool may_drop) {
    std::vector<MetadataLog::Copy> copies;
    for (const auto id : ids) copies.push_back({id, devices_.at(id)});
    const auto image = state_->image();
    auto written = log_->checkpoint(copies, image, first_epoch_);
    if (!written && may_drop && copies.size() > 1) {
        log_line(LogLevel::Warning,
                 "not all copies of the metadata can be written: " + written.error().message());
        for (std::size_t i = 0; i < copies.size() && !written; ++i)
            if (log_->checkpoint({copies[i]}, image, first_epoch_)) written = Status();
    }
    RETURN_IF_ERROR(written);
    unsaved_times_.clear();
    unsaved_removals_.clear();
    is_metadata_lost_ = false;
    checkpoint_retry_bytes_ = 0;
    known_failed_copies_ = log_->failed_copies().size();
    if (std::exchange(is_uncleaned_, false)) RETURN_IF_ERROR(clean_devices_locked());
    // The next checkpoint is written before this one's segments are free again.
    std::uint64_t largest = 0;
    for (const auto& copy : copies)
        largest = std::max(largest, log_->checkpoint_bytes() / copy.device->segment_bytes() + 1);
    allocator_->set_reserve(std::max(kReserveSegments, static_cast<std::uint32_t>(largest + 1)));
    return {};
}

std::vector<DeviceId> Store::good_copies_locked() const {
    auto copies = log_->copies();
    const auto failed = log_->failed_copies();
    std::erase_if(copies, [&](DeviceId id) {
        mutex_.assert_held();
        return !devices_.contains(id) ||
               std::find(failed.begin(), failed.end(), id) != failed.end();
    });
    return copies;
}

std::vector<DeviceId> Store::choose_copies_locked(std::optional<DeviceId> excluded) const {
    const auto present = good_copies_locked();
    const auto failed = log_->failed_copies();
    const auto is_present = [&](DeviceId id) {
        return std::find(present.begin(), present.end(), id) != present.end();
    };
    std::vector<DeviceId> chosen;
    for (const auto& [id, device] : devices_)
        if (id != excluded && !allocator_->is_leaving(id) &&
            std::find(failed.begin(), failed.end(), id) == failed.end())
            chosen.push_back(id);
    // Copies that are there stay; then who has most room.
    std::stable_sort(chosen.begin(), chosen.end(), [&](DeviceId a, DeviceId b) {
        mutex_.assert_held();
        if (is_present(a) != is_present(b)) return is_present(a);
        return allocator_->free_segments(a) * allocator_->segment_bytes(a) >
               allocator_->free_segments(b) * allocator_->segment_bytes(b);
    });
    if (chosen.size() > kMetadataCopies) chosen.resize(kMetadataCopies);
    if (!chosen.empty() || excluded) return chosen;
    // All are leaving: what is there stays until another device joins.
    return present;
}

void Store::drop_extents_locked(const Inode& node, std::uint64_t begin, Change& change) const {
    const auto inode = node.attributes.inode;
    const FileRange rest(begin, UINT64_MAX);
    for (const auto& extent : node.extents.overlapping(inode, rest))
        change.freed.push_back({extent.device, extent.device_range()});
    // What is lost may have no extent left, and is not lost in a file that does not have it.
    if (!change.freed.empty() || !node.lost.overlapping(rest).empty())
        change.operations.push_back(op::DropExtents{inode, begin});
}

void Store::close_emptied_locked(Change& change) const {
    std::map<SegmentKey, std::uint64_t> freed_bytes;
    for (const auto& part : change.freed)
        if (!part.is_lost)
            freed_bytes[segment_key_locked(part.device, part.range.begin())] += part.range.length();
    for (const auto& [key, bytes] : freed_bytes) {
        if (bytes != allocator_->taken_bytes(key) || allocator_->is_closing(key)) continue;
        if (state_->device(key.device)->map.owner(key.segment))
            change.operations.push_back(op::DisownSegment{key.device, key.segment});
        change.closing.push_back(key);
    }
    std::sort(change.closing.begin(), change.closing.end());
}

void Store::punch_freed(Change& change, const Devices& devices, const DeviceSet& failed) const {
    for (auto& part : change.freed) {
        const auto& device = devices.at(part.device);
        if (!part.needs_punch || failed.contains(part.device) ||
            change.is_closing({part.device, device->segment_at(part.range.begin())}))
            continue;
        // Where somebody has removed the file there is nothing to punch.
        if (const auto punched = device->punch(part.range);
            !punched && punched.error().code() != Code::NotFound) {
            part.is_lost = true;
            log_line(LogLevel::Warning, "freed space stays taken: " + punched.error().message());
        }
    }
    make_holes_durable(change, devices, failed);
    for (const auto& key : change.closing) {
        const auto& device = devices.at(key.device);
        // What is on a device that is gone stays as it is: it may come back.
        if (failed.contains(key.device)) continue;
        if (!device->has_segment(key.segment)) change.missing.push_back(key);
        // A file that stays is removed when the segment is used again.
        if (const auto released = device->release_segment(key.segment); !released)
            log_line(LogLevel::Warning,
                     "a freed segment keeps its memory: " + released.error().message());
    }
}

// Before the space is anybody's: after a crash its next owner must not find the bytes there that a
// hole has taken away.
void Store::make_holes_durable(Change& change, const Devices& devices,
                               const DeviceSet& failed) const {
    std::map<SegmentKey, bool> segments;
    for (auto& part : change.freed) {
        const auto& device = devices.at(part.device);
        const SegmentKey key{part.device, device->segment_at(part.range.begin())};
        if (!part.needs_punch || part.is_lost || failed.contains(part.device) ||
            change.is_closing(key) || !device->has_segment(key.segment))
            continue;
        const auto [at, is_first] = segments.try_emplace(key, true);
        if (is_first) {
            const auto synced =
                device->sync(device->segment_range(key.segment), device::DurableWrite::FileHole);
            at->second = synced.ok();
            if (!synced)
                log_line(LogLevel::Warning, "freed space stays taken: " + synced.error().message());
        }
        part.is_lost = !at->second;
    }
}

// Notes what was freed, and gives the change that closes the segments which are empty only now:
// their last parts were freed by several threads.
Change Store::settle_locked(Change& change) {
    Change next;
    // One whose file was never made misses nothing.
    for (const auto& key : change.missing)
        if (devices_.contains(key.device) && allocator_->has_file(key))
            allocator_->note_missing_files(key.device);
    for (const auto& part : change.freed)
        if (!part.is_lost) allocator_->release(part.device, part.range);
    for (const auto& key : change.closing)
        if (allocator_->taken_bytes(key) == 0) allocator_->disown(key);
    std::set<SegmentKey> touched;
    for (const auto& part : change.freed)
        if (!part.is_lost) touched.insert(segment_key_locked(part.device, part.range.begin()));
    for (const auto& key : touched) {
        if (!allocator_->owner(key) || allocator_->is_closing(key) ||
            allocator_->taken_bytes(key) > 0)
            continue;
        if (state_->device(key.device)->map.owner(key.segment))
            next.operations.push_back(op::DisownSegment{key.device, key.segment});
        next.closing.push_back(key);
    }
    return next;
}

Status Store::vacate(Change change) {
    while (!change.freed.empty() || !change.closing.empty()) {
        Devices devices;
        DeviceSet failed;
        {
            MutexLock lock(mutex_);
            devices = devices_;
            failed = failed_devices_;
        }
        punch_freed(change, devices, failed);
        MutexLock lock(mutex_);
        auto next = settle_locked(change);
        if (!next.closing.empty()) RETURN_IF_ERROR(commit_locked(next));
        change = std::move(next);
    }
    return {};
}

void Store::note_modified_locked(InodeNo inode) {
    const auto* node = state_->inode(inode);
    if (node == nullptr) return;
    CHECK(state_->apply(modified_at(*node, now_ns())).ok());
    unsaved_times_.insert(inode);
}

Status Store::save_unsaved_locked() {
    Change change;
    return commit_locked(change);
}

}  // namespace refault::store
