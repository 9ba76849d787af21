// Making a pool and opening one.
//
//   history -> state -> orphans dropped -> books -> checkpoint -> left-over files and bytes removed
//
// Nothing of the old history is touched before the checkpoint is durable: a crash anywhere leaves a
// pool that opens.
#include <algorithm>
#include <set>

#include "base/log.h"
#include "store/change.h"
#include "store/clock.h"
#include "store/fresh_label.h"
#include "store/layout_table.h"
#include "store/metadata_segments.h"
#include "store/move_book.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::log_line;
using base::LogLevel;
using base::MutexLock;
using device::Label;
using device::LabelState;

namespace {

Status check_names(const std::vector<DevicePtr>& devices) {
    if (devices.empty()) return Error(Code::Invalid, "a pool needs at least one device");
    std::set<std::string> names;
    for (const auto& device : devices)
        if (!names.insert(device->name()).second)
            return Error(Code::Exists, "two devices have the name " + device->name() +
                                           "; choose another for one of them");
    return {};
}

}  // namespace

void Store::start_locked(const Devices& devices, const base::Uuid& pool,
                         std::uint64_t first_epoch) {
    pool_uuid_ = pool;
    first_epoch_ = first_epoch;
    devices_ = devices;
    if (!state_) state_ = std::make_unique<State>();
    allocator_ = std::make_unique<Allocator>();
    if (!moves_) moves_ = std::make_unique<MoveBook>();
    space_ = std::make_unique<MetadataSegments>(*state_, *allocator_, devices_);
    log_ = std::make_unique<MetadataLog>(pool, *space_);
}

Result<std::unique_ptr<Store>> Store::create(const std::string& pool_name,
                                             std::vector<DevicePtr> devices, const Cred& owner) {
    RETURN_IF_ERROR(check_names(devices));
    if (!is_valid_name(pool_name))
        return Error(Code::Invalid, "not a name for a pool: '" + pool_name + "'");
    auto pool = base::Uuid::random();
    if (!pool) return pool.error();
    std::unique_ptr<Store> store(new Store);
    MutexLock lock(store->mutex_);
    std::vector<Operation> operations{op::SetPool{*pool, pool_name}};
    Devices numbered;
    for (const auto& device : devices) {
        const DeviceId id(static_cast<std::uint32_t>(numbered.size() + 1));
        const auto label = fresh_label(*device, *pool, id);
        if (!label) return label.error();
        RETURN_IF_ERROR(device->write_label(*label));
        numbered.emplace(id, device);
        operations.push_back(op::AddDevice{id, label->device, label->name, device->segment_bytes(),
                                           device->segment_count()});
        operations.push_back(op::SetGeneration{id, label->generation});
    }
    Attributes root;
    root.inode = base::kRootInode;
    root.type = FileType::Directory;
    root.mode = owner.uid == 0 ? 01777 : 0755;
    root.uid = owner.uid;
    root.gid = owner.gid;
    root.modified_ns = root.changed_ns = root.created_ns = now_ns();
    operations.push_back(op::CreateInode{root});
    store->start_locked(numbered, *pool, 1);
    for (const auto& operation : operations) RETURN_IF_ERROR(store->state_->apply(operation));
    for (const auto& [id, device] : numbered)
        store->allocator_->add_device(id, device->segment_bytes(), device->segment_count());
    auto written =
        store->checkpoint_locked(store->choose_copies_locked(std::nullopt), /*may_drop=*/false);
    if (!written) {
        for (const auto& device : devices)
            base::discard(device->remove_label(), "the first error is the one to tell");
        return written.error();
    }
    return store;
}

Result<std::unique_ptr<Store>> Store::open(std::vector<DevicePtr> devices, bool allow_missing,
                                           LeftOvers left_overs) {
    RETURN_IF_ERROR(check_names(devices));
    auto history = MetadataLog::read_longest(devices);
    std::vector<DevicePtr> handed_over;
    if (!history && history.error().code() == Code::Invalid) {
        handed_over = part_handed_over(devices);
        if (!handed_over.empty()) history = MetadataLog::read_longest(devices);
    }
    if (!history) return history.error();
    if (!history->notes.empty()) log_line(LogLevel::Warning, history->notes);
    std::unique_ptr<Store> store(new Store);
    MutexLock lock(store->mutex_);
    store->keeps_left_overs_ = left_overs == LeftOvers::Keep;
    store->state_ = std::make_unique<State>();
    for (const auto& record : history->checkpoint)
        RETURN_IF_ERROR(store->state_->apply_record(record));
    for (const auto& record : history->transactions)
        RETURN_IF_ERROR(store->state_->apply_record(record));
    const auto* root = store->state_->inode(base::kRootInode);
    if (root == nullptr) return Error(Code::Corrupt, "the pool's metadata has no root directory");
    RETURN_IF_ERROR(store->finish_hand_over_locked(handed_over, devices));
    RETURN_IF_ERROR(store->end_broken_repairs_locked());
    Devices matched;
    store->moves_ = std::make_unique<MoveBook>();
    RETURN_IF_ERROR(store->match_devices_locked(devices, allow_missing, matched));
    store->start_locked(matched, store->state_->pool_uuid(), history->epoch + 1);
    RETURN_IF_ERROR(store->settle_books_locked());
    RETURN_IF_ERROR(store->protect_metadata_locked(matched, history->epoch));
    for (const auto inode : store->state_->taken_over())
        store->taken_over_at_open_[inode] = store->state_->inode(inode)->rare->taken_over;
    const auto written =
        store->checkpoint_locked(store->choose_copies_locked(std::nullopt), /*may_drop=*/true);
    if (!written && written.error().code() == Code::NoSpace) {
        // All can be read, and a device that is added takes the checkpoint.
        store->is_metadata_lost_ = store->is_uncleaned_ = true;
        log_line(LogLevel::Error,
                 "the pool can be read, but not changed: " + written.error().message());
        return store;
    }
    RETURN_IF_ERROR(written);
    RETURN_IF_ERROR(store->clean_devices_locked());
    return store;
}

// Gives each device its label's next generation. What carries the pool's label but is not in the
// history had been removed, or was about to join: a crash came between the journal and the label.
Status Store::match_devices_locked(const std::vector<DevicePtr>& devices, bool allow_missing,
                                   Devices& matched) {
    std::vector<std::pair<DevicePtr, Label>> labels;
    for (const auto& device : devices) {
        auto label = device->read_label();
        if (!label) return label.error().within("device " + device->name());
        const auto* known = state_->device(label->id);
        const bool is_known = known != nullptr && known->uuid == label->device;
        // A crash came before the last label of a pool that was being detached.
        if (is_known && label->generation < known->generation) label->pool = state_->pool_uuid();
        if (label->pool != state_->pool_uuid())
            return Error(Code::Invalid, "device " + device->name() + " belongs to another pool, " +
                                            label->pool.to_string());
        const auto* absent = state_->absent(label->id);
        if (absent != nullptr && absent->uuid == label->device) {
            log_line(LogLevel::Warning, "device " + device->name() +
                                            " was lost and is left as it is; to take it back, add "
                                            "it to the pool");
            continue;
        }
        ++label->generation;
        if (!is_known) {
            label->state = LabelState::Removed;
            label->metadata_segments.clear();
            log_line(LogLevel::Warning,
                     "device " + device->name() + " is not part of the pool any more");
        } else if (known->map.segment_bytes() != device->segment_bytes() ||
                   known->map.segment_count() != device->segment_count()) {
            return Error(Code::Corrupt, "device " + device->name() +
                                            " has another size than the pool's metadata says");
        } else {
            matched.emplace(label->id, device);
            RETURN_IF_ERROR(state_->apply(op::SetGeneration{label->id, label->generation}));
        }
        labels.emplace_back(device, std::move(*label));
    }
    std::string missing;
    std::vector<DeviceId> missing_ids;
    for (const auto& [id, device] : state_->devices()) {
        if (matched.contains(id)) continue;
        missing += (missing.empty() ? "" : ", ") + device.name;
        missing_ids.push_back(id);
    }
    if (!missing.empty() && !allow_missing)
        return Error(Code::NotFound, "devices of the pool are missing: " + missing +
                                         "; give them all, or open it with --degraded: what has "
                                         "no other copy is lost then until they come back");
    for (const auto id : missing_ids) RETURN_IF_ERROR(lose_missing_locked(id));
    for (const auto& [device, label] : labels) RETURN_IF_ERROR(device->write_label(label));
    return {};
}

// The same as what a surprise removal does, before anybody maps anything.
Status Store::lose_missing_locked(DeviceId id) {
    const auto* device = state_->device(id);
    const op::LoseDevice lose{id, device->uuid, device->name, device->map.segment_bytes(),
                              device->map.segment_count()};
    log_line(LogLevel::Warning, "device " + device->name + " is missing");
    failed_devices_.insert(id);
    std::vector<SegmentNo> owned;
    for (std::uint32_t i = 0; i < device->map.segment_count(); ++i) {
        if (!device->map.owner(SegmentNo(i))) continue;
        owned.push_back(SegmentNo(i));
        for (const auto& extent : device->map.extents(SegmentNo(i))) {
            Change change;
            Dropped dropped{extent, {}, {}};
            drop_copy_locked(extent, FailureKind::SurpriseRemoval, change, dropped);
            for (const auto& operation : change.operations)
                RETURN_IF_ERROR(state_->apply(operation));
        }
    }
    for (const auto segment : owned) RETURN_IF_ERROR(state_->apply(op::DisownSegment{id, segment}));
    failed_devices_.erase(id);
    return state_->apply(lose);
}

// Drops files without names and owners without extents, then books what is left.
Status Store::settle_books_locked() {
    RETURN_IF_ERROR(remove_orphans_locked());
    for (const auto& [id, device] : state_->devices()) {
        allocator_->add_device(id, device.map.segment_bytes(), device.map.segment_count());
        for (std::uint32_t i = 0; i < device.map.segment_count(); ++i) {
            const SegmentNo segment(i);
            if (!device.map.owner(segment)) continue;
            if (device.map.record_count(segment) == 0) {
                RETURN_IF_ERROR(state_->apply(op::DisownSegment{id, segment}));
                continue;
            }
            if (!devices_.at(id)->has_segment(segment))
                return Error(Code::Corrupt,
                             "device " + device.name + " has lost the file of segment " +
                                 std::to_string(i) +
                                 ", which holds data; put it back, or leave this device out and "
                                 "open the pool with --degraded: what has no other copy is lost "
                                 "then");
            allocator_->own({id, segment}, *device.map.owner(segment));
            allocator_->set_has_file({id, segment});
            for (const auto& extent : device.map.extents(segment))
                allocator_->take(id, extent.device_range());
        }
    }
    return {};
}

Status Store::remove_orphans_locked() {
    if (keeps_left_overs_) return {};
    std::vector<InodeNo> orphans;
    for (const auto& [number, node] : state_->inodes())
        if (!node.is_named()) orphans.push_back(number);
    for (const auto number : orphans) {
        RETURN_IF_ERROR(state_->apply(op::DropExtents{number, 0}));
        RETURN_IF_ERROR(state_->apply(op::RemoveInode{number}));
    }
    return {};
}

// The log's segments stay as they are until the new checkpoint is written. A label of an older
// epoch was left behind by a crash; what it lists may have got other owners since.
Status Store::protect_metadata_locked(const Devices& devices, std::uint64_t epoch) {
    auto& space = static_cast<MetadataSegments&>(*space_);
    for (const auto& [id, device] : devices) {
        const auto label = device->label();
        for (const auto segment : label.metadata_segments)
            if (!space.adopt({id, segment}) && label.metadata_epoch == epoch)
                return Error(Code::Corrupt, "device " + device->name() +
                                                " has metadata in segment " +
                                                std::to_string(segment.raw()) +
                                                ", which the metadata gives to others");
    }
    return {};
}

// The checkpoint stands: what neither it nor the log's labels own goes.
Status Store::clean_devices_locked() {
    for (const auto& [id, device] : devices_) RETURN_IF_ERROR(clean_device_locked(id, *device));
    return {};
}

Status Store::clean_device_locked(DeviceId id, device::Device& device) {
    const auto copies = log_->copies();
    auto label = device.label();
    const bool has_copy = std::find(copies.begin(), copies.end(), id) != copies.end();
    if (!has_copy && !label.metadata_segments.empty()) {
        label.metadata_segments.clear();
        label.metadata_epoch = 0;
        RETURN_IF_ERROR(device.write_label(label));
    }
    for (const auto& key : allocator_->owned(id)) {
        const auto& listed = label.metadata_segments;
        if (allocator_->owner(key)->kind == SegmentOwner::Kind::Metadata) {
            if (std::find(listed.begin(), listed.end(), key.segment) == listed.end())
                space_->give_back(id, key.segment);
            continue;
        }
        const auto base = device.segment_range(key.segment).begin();
        // Durably: who gets the space next must find it empty, whatever happens then.
        for (const auto& [offset, length] : allocator_->space(key)->runs())
            RETURN_IF_ERROR(device.punch(DeviceRange::of_length(base + offset, length)));
        if (!allocator_->space(key)->runs().empty())
            RETURN_IF_ERROR(
                device.sync(device.segment_range(key.segment), device::DurableWrite::FileHole));
    }
    return keeps_left_overs_ ? punch_unowned_locked(id, device)
                             : release_unowned_locked(id, device);
}

// What moved away from there was shut in every program before the journal said so: a touch waits. A
// file that is cut would be SIGBUS, and one that stays older bytes.
Status Store::punch_unowned_locked(DeviceId id, device::Device& device) {
    auto files = device.list_segments();
    if (!files) return files.error();
    for (const auto segment : *files)
        if (segment.raw() < device.segment_count() && !allocator_->owner({id, segment}))
            RETURN_IF_ERROR(device.punch(device.segment_range(segment)));
    return {};
}

Status Store::release_unowned_locked(DeviceId id, device::Device& device) {
    auto files = device.list_segments();
    if (!files) return files.error();
    for (const auto segment : *files)
        if (segment.raw() >= device.segment_count() || !allocator_->owner({id, segment}))
            RETURN_IF_ERROR(device.release_segment(segment));
    return {};
}

void Store::clear_left_overs() {
    std::vector<InodeNo> files;
    {
        MutexLock lock(mutex_);
        if (!keeps_left_overs_ || is_uncleaned_) return;
        keeps_left_overs_ = false;
        for (const auto& [number, node] : state_->inodes()) {
            if (node.is_named() || is_held_locked(number)) continue;
            files.push_back(number);
            layouts_->want_idle(number);
        }
        for (const auto& [id, device] : devices_)
            if (!failed_devices_.contains(id))
                base::discard(release_unowned_locked(id, *device),
                              "a file that stays is removed when its segment is used again");
    }
    for (const auto inode : files) layouts_->call_if_idle(inode);
}

}  // namespace refault::store
