// A device that was lost and is there again. What it held is compared with what became of the
// files:
//
//   absent extent   [=========================)
//   file now        [lost here ) [has a copy ) [cut off)
//   then            there again  reserved as a   dropped
//                                copy, brought
//                                up to date
//
// Its segments may hold bytes of files that are gone, so everything that is not kept is punched
// before a descriptor of it can go to anybody.
#include <algorithm>
#include <map>

#include "base/log.h"
#include "base/range_set.h"
#include "store/change.h"
#include "store/fresh_label.h"
#include "store/metadata_log.h"
#include "store/move_book.h"
#include "store/state.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::MutexLock;

// Collects what is kept, under the store's lock. Lives for one call.
class Store::Rejoin {
  public:
    Rejoin(const State& state, const State::Absent& absent, DeviceId id,
           const device::Device& device)
        : state_(state), absent_(absent), id_(id), device_(device) {}

    void collect() {
        find_owners();
        for (const auto& extent : absent_.extents) {
            const auto segment = device_.segment_at(extent.device_offset);
            if (!owners_.contains(segment)) continue;
            // In a segment of several files some may have been removed since.
            const auto* node = state_.inode(extent.inode);
            if (node == nullptr || !node->has_bytes()) continue;
            keep_lost_parts(*node, extent);
            keep_copies(*node, extent);
        }
    }
    const std::map<SegmentNo, SegmentOwner>& owners() const { return owners_; }
    const std::vector<Extent>& restored() const { return restored_; }
    const std::vector<Move>& copies() const { return copies_; }

  private:
    // A segment goes to the file that has it alone, or to the user of all files in it; one whose
    // files are gone, or of several users by now, is not kept.
    void find_owners() {
        std::map<SegmentNo, std::set<InodeNo>> inodes;
        for (const auto& extent : absent_.extents) {
            const auto segment = device_.segment_at(extent.device_offset);
            const auto* node = state_.inode(extent.inode);
            if (node != nullptr && node->has_bytes() &&
                device_.probe_segment(segment).health == device::SegmentHealth::Whole)
                inodes[segment].insert(extent.inode);
        }
        for (const auto& [segment, members] : inodes) {
            if (members.size() == 1) {
                owners_[segment] = {SegmentOwner::Kind::Exclusive, 0, *members.begin()};
                continue;
            }
            std::set<uid_t> users;
            for (const auto inode : members) users.insert(state_.inode(inode)->attributes.uid);
            if (users.size() == 1)
                owners_[segment] = {SegmentOwner::Kind::SharedByUser, *users.begin(), {}};
        }
    }

    // Only what was lost with this device at this very place, and has no memory since.
    void keep_lost_parts(const Inode& node, const Extent& extent) {
        base::RangeSet placed;
        for (const auto& other : node.extents.overlapping(extent.inode, extent.file_range()))
            if (other.replica == 0) placed.add(other.file_range());
        for (const auto& lost : node.lost.overlapping(extent.file_range())) {
            const auto here = cut_to(extent, lost.range);
            if (lost.kind != FailureKind::SurpriseRemoval || lost.device != id_ ||
                lost.device_offset != here.device_offset || placed.overlaps(lost.range))
                continue;
            auto primary = here;
            primary.replica = 0;
            restored_.push_back(primary);
        }
    }

    void keep_copies(const Inode& node, const Extent& extent) {
        for (std::uint32_t replica = 1; replica < node.attributes.replicas; ++replica) {
            base::RangeSet present;
            const auto all = node.extents.overlapping(extent.inode, extent.file_range());
            for (const auto& other : all)
                if (other.replica == replica || other.device == id_)
                    present.add(other.file_range());
            for (const auto& kept : copies_)
                if (kept.from.inode == extent.inode) present.add(kept.from.file_range());
            for (const auto& primary : all) {
                if (primary.replica != 0) continue;
                for (const auto part : present.gaps(primary.file_range()))
                    copies_.push_back({cut_to(primary, part), id_,
                                       cut_to(extent, part).device_offset, replica, true});
            }
        }
    }

    const State& state_;
    const State::Absent& absent_;
    const DeviceId id_;
    const device::Device& device_;
    std::map<SegmentNo, SegmentOwner> owners_;
    std::vector<Extent> restored_;
    std::vector<Move> copies_;
};

// What was punched since it was noted would come back as zeros.
Status Store::forget_absent_parts(std::span<const Extent> punched) {
    if (punched.empty()) return {};
    MutexLock lock(mutex_);
    const auto id = punched.front().device;
    const auto* absent = state_->absent(id);
    if (absent == nullptr) return {};
    const auto offsets = [](const Extent& extent) {
        return FileRange::of_length(extent.device_offset, extent.length);
    };
    base::RangeSet gone;  // of offsets in the device
    for (const auto& extent : punched) gone.add(offsets(extent));
    Change change;
    change.operations = {op::ForgetAbsent{id}};
    for (const auto& extent : absent->extents)
        for (const auto left : gone.gaps(offsets(extent))) {
            auto part = extent;
            part.file_offset += left.begin() - extent.device_offset;
            part.device_offset = left.begin();
            part.length = left.length();
            change.operations.push_back(op::NoteAbsent{part});
        }
    return append_and_apply_locked(change);
}

Status Store::forget_device(const std::string& name) {
    MutexLock lock(mutex_);
    Change change;
    for (const auto& [id, absent] : state_->absent())
        if (absent.name == name) change.operations.push_back(op::ForgetAbsent{id});
    if (change.operations.empty())
        return Error(Code::NotFound, "no device " + name + " is lost; see: refault device list");
    return commit_locked(change);
}

bool Store::is_absent(const device::Label& label) const {
    MutexLock lock(mutex_);
    const auto* absent = state_->absent(label.id);
    return label.pool == pool_uuid_ && absent != nullptr && absent->uuid == label.device;
}

bool Store::is_as_it_left(const device::Label& label) const {
    MutexLock lock(mutex_);
    const auto* absent = state_->absent(label.id);
    return absent != nullptr && (absent->generation == 0 || absent->generation == label.generation);
}

std::vector<std::string> Store::absent_devices() const {
    MutexLock lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [id, absent] : state_->absent()) names.push_back(absent.name);
    return names;
}

Result<Store::Rejoined> Store::rejoin_device(DevicePtr device) {
    auto label = device->label();
    if (!is_absent(label))
        return Error(Code::NotFound, device->name() + " is no device that this pool waits for");
    if (!is_as_it_left(label))
        return Error(Code::Invalid,
                     "device " + device->name() +
                         " was in use elsewhere since it left, or is an older copy of itself: what "
                         "it holds is not what this pool knows; to wipe it and let it join empty, "
                         "say --yes");
    // What could not be cleaned afterwards would be handed out with bytes of others.
    const auto segments = device->list_segments();
    if (!segments) return segments.error();
    for (const auto segment : *segments)
        if (auto opened = device->open_segment(segment, base::Access::ReadWrite); !opened)
            return opened.error().within("device " + device->name() +
                                         " cannot come back as it is: a segment file is not one");
    MutexLock lock(mutex_);
    const auto id = label.id;
    const auto absent = *state_->absent(id);
    if (absent.segment_bytes != device->segment_bytes() ||
        absent.segment_count != device->segment_count())
        return Error(Code::Corrupt, "device " + absent.name + " has another size than it had");
    if (!state_->has_room_for(absent.segment_count)) return too_many_segments(*device);
    for (const auto& [other_id, other] : state_->devices())
        if (other.name == absent.name)
            return Error(Code::Exists, "the pool has another device " + absent.name +
                                           " by now; pull that one first");
    Rejoin rejoin(*state_, absent, id, *device);
    rejoin.collect();
    ++label.generation;
    label.metadata_epoch = 0;
    label.metadata_segments.clear();
    Change change;
    change.operations = {
        op::AddDevice{id, absent.uuid, absent.name, absent.segment_bytes, absent.segment_count},
        op::SetGeneration{id, label.generation}, op::ForgetAbsent{id}};
    // A segment that only copies lie in gets its owner with the first of them, as for every move.
    std::set<SegmentNo> owned;
    for (const auto& extent : rejoin.restored()) {
        const auto segment = device->segment_at(extent.device_offset);
        if (owned.insert(segment).second)
            change.operations.push_back(op::OwnSegment{id, segment, rejoin.owners().at(segment)});
        change.operations.push_back(op::AddExtent{extent});
        change.operations.push_back(
            op::ClearLost{extent.inode, extent.file_range().begin(), extent.file_range().end()});
    }
    RETURN_IF_ERROR(append_and_apply_locked(change));
    // Not before the journal: a crash in between would leave a label that looks as if the device
    // had been in use elsewhere. The other way round the next opening writes it.
    if (const auto written = device->write_label(label); !written)
        base::log_line(base::LogLevel::Error,
                       "device " + absent.name +
                           " is back, but its label does not say so: " + written.error().message());
    devices_.emplace(id, device);
    allocator_->add_device(id, absent.segment_bytes, absent.segment_count);
    for (const auto& [segment, owner] : rejoin.owners()) {
        allocator_->own({id, segment}, owner);
        allocator_->set_has_file({id, segment});
    }
    Rejoined result{id, {}, rejoin.copies()};
    for (const auto& extent : rejoin.restored()) {
        allocator_->take(id, extent.device_range());
        result.restored.emplace_back(extent.inode, extent.file_range());
    }
    for (const auto& move : rejoin.copies()) {
        const auto range = DeviceRange::of_length(move.to_offset, move.from.length);
        allocator_->take(id, range);
        moves_->reserve(move, rejoin.owners().at(device->segment_at(move.to_offset)));
        moves_->find(move)->is_prepared = true;
    }
    for (const auto& [segment, owner] : rejoin.owners())
        if (allocator_->taken_bytes({id, segment}) == 0) allocator_->disown({id, segment});
    checkpoint_if_due_locked();
    RETURN_IF_ERROR(clean_device_locked(id, *device));
    // What was on it of the metadata is of no use any more, and all of it may lie on one device.
    log_->readmit(id);
    if (const auto copied = ensure_metadata_copies_locked(); !copied)
        base::log_line(base::LogLevel::Warning,
                       "the device that is back has no copy of the "
                       "metadata: " +
                           copied.error().message());
    return result;
}

}  // namespace refault::store
