// Devices that leave with what is on them, as a pool of their own.
//
//   this pool   [a: f g h][b: f' i][c: i']        detach a: f's other copy (f') stays behind and is
//   the new one [a: f g h]                         dropped, i is not concerned
//
// The new pool's log is written on the leaving devices first. The label that lists it hands the
// device over, and is followed by those of the other devices; then this pool forgets them. What a
// crash in between leaves is finished when this pool is opened (store_handover.cc).
#include <algorithm>

#include "base/range_set.h"
#include "store/change.h"
#include "store/metadata_segments.h"
#include "store/move_book.h"
#include "store/state.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::FileRange;
using base::MutexLock;

namespace {

bool is_whole_on(const Inode& node, const DeviceSet& devices) {
    const auto extents = node.extents.overlapping(node.attributes.inode, FileRange(0, UINT64_MAX));
    base::RangeSet covered;
    for (const auto& extent : extents)
        if (devices.contains(extent.device)) covered.add(extent.file_range());
    for (const auto& lost : node.lost.all()) covered.add(lost.range);
    return std::all_of(extents.begin(), extents.end(), [&](const Extent& extent) {
        return covered.gaps(extent.file_range()).empty();
    });
}

// The extents on the devices with numbers of their own: primaries everywhere, then further copies.
std::vector<Extent> renumbered(const Inode& node, const DeviceSet& devices) {
    std::vector<Extent> result;
    std::vector<base::RangeSet> covered(kReplicasMax);
    for (const auto& extent :
         node.extents.overlapping(node.attributes.inode, FileRange(0, UINT64_MAX))) {
        if (!devices.contains(extent.device)) continue;
        base::RangeSet open;
        open.add(extent.file_range());
        for (std::uint32_t replica = 0; replica < kReplicasMax; ++replica) {
            for (const auto part : open.parts()) {
                for (const auto gap : covered[replica].gaps(part)) {
                    auto cut = extent;
                    cut.device_offset += gap.begin() - extent.file_offset;
                    cut.file_offset = gap.begin();
                    cut.length = gap.length();
                    cut.replica = replica;
                    result.push_back(cut);
                    covered[replica].add(gap);
                    open.subtract(gap);
                }
            }
        }
    }
    return result;
}

}  // namespace

Result<Store::ExportPlan> Store::plan_export(const DeviceSet& devices) const {
    MutexLock lock(mutex_);
    ExportPlan plan;
    for (const auto& [number, node] : state_->inodes()) {
        if (!node.has_bytes()) continue;
        const auto extents = node.extents.overlapping(number, FileRange(0, UINT64_MAX));
        const bool is_concerned = std::any_of(extents.begin(), extents.end(), [&](const Extent& e) {
            return devices.contains(e.device);
        });
        if (!is_concerned) continue;
        plan.files.push_back(number);
        plan.bytes += node.attributes.size_bytes;
        if (!is_whole_on(node, devices) || !node.is_named())
            plan.incomplete.push_back(state_->path_of(number));
    }
    std::sort(plan.files.begin(), plan.files.end());
    return plan;
}

void Store::set_detaching(const std::vector<InodeNo>& files, bool is_detaching) {
    MutexLock lock(mutex_);
    for (const auto file : files)
        if (is_detaching)
            detaching_.insert(file);
        else
            detaching_.erase(file);
}

// What the new pool's history begins with.
Result<State> Store::exported_state_locked(const DeviceSet& devices,
                                           const std::vector<InodeNo>& files,
                                           const base::Uuid& pool, const std::string& name) const {
    State state;
    std::vector<Operation> operations{op::SetPool{pool, name}};
    for (const auto id : devices) {
        const auto* device = state_->device(id);
        operations.push_back(op::AddDevice{id, device->uuid, device->name,
                                           device->map.segment_bytes(),
                                           device->map.segment_count()});
        // That of the label which hands the device over.
        operations.push_back(op::SetGeneration{id, devices_.at(id)->label().generation + 1});
    }
    // Directories from the root down, then the files in them.
    std::set<InodeNo> made;
    const std::function<void(InodeNo)> make = [&](InodeNo number) {
        mutex_.assert_held();
        if (!made.insert(number).second) return;
        const auto* node = state_->inode(number);
        const bool is_root = number == base::kRootInode;
        if (!is_root) make(node->parent);
        if (node->rare)
            for (const auto& [directory, other_name] : node->rare->names) make(directory);
        operations.push_back(op::CreateInode{node->attributes});
        if (!is_root) operations.push_back(op::LinkName{node->parent, node->name, number});
        if (!node->rare) return;
        for (const auto& [directory, other_name] : node->rare->names)
            operations.push_back(op::LinkName{directory, other_name, number});
        for (const auto& [attribute, value] : node->rare->extended)
            operations.push_back(op::SetExtended{number, attribute, value});
    };
    make(base::kRootInode);
    for (const auto file : files) make(file);
    for (const auto id : devices) {
        const auto& map = state_->device(id)->map;
        for (std::uint32_t i = 0; i < map.segment_count(); ++i)
            if (const auto& owner = map.owner(SegmentNo(i)))
                operations.push_back(op::OwnSegment{id, SegmentNo(i), *owner});
    }
    for (const auto file : files) {
        const auto* node = state_->inode(file);
        for (const auto& extent : renumbered(*node, devices))
            operations.push_back(op::AddExtent{extent});
        for (const auto& lost : node->lost.all()) operations.push_back(op::MarkLost{file, lost});
    }
    for (const auto& operation : operations) RETURN_IF_ERROR(state.apply(operation));
    return state;
}

Status Store::write_exported_locked(State& state, const DeviceSet& devices,
                                    const base::Uuid& pool) {
    Devices members;
    Allocator allocator;
    allocator.set_reserve(0);
    for (const auto id : devices) {
        members.emplace(id, devices_.at(id));
        const auto& map = state.device(id)->map;
        allocator.add_device(id, map.segment_bytes(), map.segment_count());
        for (std::uint32_t i = 0; i < map.segment_count(); ++i) {
            if (!map.owner(SegmentNo(i))) continue;
            allocator.own({id, SegmentNo(i)}, *map.owner(SegmentNo(i)));
            allocator.set_has_file({id, SegmentNo(i)});
            for (const auto& extent : map.extents(SegmentNo(i)))
                allocator.take(id, extent.device_range());
        }
    }
    MetadataSegments space(state, allocator, members);
    MetadataLog log(pool, space);
    std::vector<MetadataLog::Copy> copies;
    for (const auto& [id, device] : members)
        if (copies.size() < kMetadataCopies) copies.push_back({id, device});
    RETURN_IF_ERROR(log.checkpoint(copies, state.image()));
    for (const auto& [id, device] : members) {
        auto label = device->label();
        if (label.pool == pool) continue;
        label.pool = pool;
        ++label.generation;
        RETURN_IF_ERROR(device->write_label(label));
    }
    return {};
}

Status Store::export_devices(const DeviceSet& devices, const std::string& pool_name) {
    auto plan = plan_export(devices);
    if (!plan) return plan.error();
    auto pool = base::Uuid::random();
    if (!pool) return pool.error();
    auto layouts = lock_layouts(plan->files);
    Change change;
    {
        MutexLock lock(mutex_);
        RETURN_IF_ERROR(may_export_locked(devices, *plan));
        auto state = exported_state_locked(devices, plan->files, *pool, pool_name);
        if (!state) return state.error();
        std::map<DeviceId, device::Label> old_labels;
        for (const auto id : devices) old_labels[id] = devices_.at(id)->label();
        auto done = write_exported_locked(*state, devices, *pool);
        if (done) {
            // Their memory is the new pool's from here on: only the books are changed.
            failed_devices_.insert(devices.begin(), devices.end());
            for (const auto file : plan->files) {
                const auto* node = state_->inode(file);
                drop_extents_locked(*node, 0, change);
                change.operations.push_back(op::UnlinkName{node->parent, node->name});
                if (node->rare)
                    for (const auto& [directory, name] : node->rare->names)
                        change.operations.push_back(op::UnlinkName{directory, name});
                change.operations.push_back(op::RemoveInode{file});
            }
            close_emptied_locked(change);
            done = append_and_apply_locked(change);
        }
        if (!done) {
            for (const auto& [id, label] : old_labels) {
                failed_devices_.erase(id);
                auto& device = *devices_.at(id);
                const auto listed = device.label().metadata_segments;
                if (!device.write_label(label)) continue;  // the first error is told
                for (const auto segment : listed)
                    base::discard(
                        device.release_segment(segment, device::DurableWrite::LogSegmentRemove),
                        "a file that stays is removed at the next open");
            }
            return done;
        }
    }
    base::discard(vacate(std::move(change)), "what stays behind is found at the next open");
    MutexLock lock(mutex_);
    Change gone;
    for (const auto id : devices) gone.operations.push_back(op::RemoveDevice{id});
    RETURN_IF_ERROR(append_and_apply_locked(gone));
    for (const auto id : devices) {
        allocator_->remove_device(id);
        devices_.erase(id);
        failed_devices_.erase(id);
    }
    for (const auto file : plan->files) detaching_.erase(file);
    checkpoint_if_due_locked();
    return {};
}

Status Store::may_export_locked(const DeviceSet& devices, const ExportPlan& plan) const {
    if (!plan.incomplete.empty())
        return Error(Code::Invalid, plan.incomplete.front() +
                                        " lies only in part on the devices that are to leave");
    for (const auto file : plan.files)
        if (pins_.contains(file))
            return Error(Code::Busy, state_->path_of(file) + " is still open");
    for (const auto id : devices) {
        const auto* device = state_->device(id);
        if (device == nullptr) return Error(Code::NotFound, "a device is gone already");
        if (device->map.metadata_segments() > 0)
            return Error(Code::Busy, "device " + device->name + " still has metadata of this pool");
        for (const auto& key : allocator_->owned(id))
            if (moves_->bytes_in(id, device->map.segment_bytes(), key.segment) > 0 ||
                !device->map.owner(key.segment))
                return Error(Code::Busy, "moves are using device " + device->name);
    }
    return {};
}

}  // namespace refault::store
