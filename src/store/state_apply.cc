// Applying operations. Each looks at everything first and changes the state only when all of it
// fits.
#include <bit>
#include <tuple>

#include "store/state.h"

namespace refault::store {

using base::Code;
using base::Error;

namespace {

constexpr std::uint64_t kSegmentBytesMax = 1ull << 30;
constexpr std::uint32_t kSegmentsMax = 1u << 18;

Error misfit(const std::string& what) {
    return Error(Code::Corrupt, "the pool's metadata contradicts itself: " + what);
}

std::string describe(const Extent& e) {
    return "extent of inode " + std::to_string(e.inode.raw()) + " at " +
           std::to_string(e.file_offset) + ", device " + std::to_string(e.device.raw()) + " at " +
           std::to_string(e.device_offset) + ", length " + std::to_string(e.length);
}

}  // namespace

bool is_possible_shape(std::uint64_t segment_bytes, std::uint32_t segment_count) noexcept {
    return std::has_single_bit(segment_bytes) && segment_bytes >= base::kPageBytes &&
           segment_bytes <= kSegmentBytesMax && segment_count > 0 && segment_count <= kSegmentsMax;
}

bool State::has_room_for(std::uint32_t segment_count) const noexcept {
    std::uint64_t sum = segment_count;
    for (const auto& [id, device] : devices_) sum += device.map.segment_count();
    return sum <= kPoolSegmentsMax;
}

Status State::on(const op::SetPool& o) {
    if (pool_uuid_ != base::Uuid{}) return misfit("two pool records");
    pool_uuid_ = o.uuid;
    pool_name_ = o.name;
    return {};
}

Status State::on(const op::SetCounters& o) {
    if (o.next_inode < next_inode_ || o.next_device < next_device_)
        return misfit("a counter goes back");
    next_inode_ = o.next_inode;
    next_device_ = o.next_device;
    return {};
}

Status State::on(const op::AddDevice& o) {
    if (!is_possible_shape(o.segment_bytes, o.segment_count) || o.name.empty())
        return misfit("device " + std::to_string(o.id.raw()) + " has an impossible shape");
    if (o.id == DeviceId() || o.id.raw() == UINT32_MAX)
        return misfit("an impossible device number");
    for (const auto& [id, device] : devices_)
        if (id == o.id || device.name == o.name || device.uuid == o.uuid)
            return misfit("a device is there twice");
    if (!has_room_for(o.segment_count)) return misfit("the devices have too many segments");
    devices_.try_emplace(
        o.id, Device{o.uuid, o.name, ReverseMap(o.id, o.segment_bytes, o.segment_count), 0});
    next_device_ = std::max(next_device_, DeviceId(o.id.raw() + 1));
    return {};
}

Status State::on(const op::RemoveDevice& o) {
    const auto* map = find_map(o.id);
    if (map == nullptr) return misfit("an unknown device is removed");
    for (std::uint32_t i = 0; i < map->segment_count(); ++i)
        if (map->owner(SegmentNo(i)))
            return misfit("a device is removed that still holds something");
    devices_.erase(o.id);
    return {};
}

Status State::on(const op::CreateInode& o) {
    const auto number = o.attributes.inode;
    if (number == InodeNo() || number.raw() == UINT64_MAX)
        return misfit("an impossible inode number");
    if (inodes_.contains(number))
        return misfit("inode " + std::to_string(number.raw()) + " is made twice");
    const bool is_root = number == base::kRootInode;
    const bool is_directory = o.attributes.type == FileType::Directory;
    if (is_root && !is_directory) return misfit("the root is not a directory");
    auto& node = inodes_[number];
    node.attributes = o.attributes;
    node.attributes.links = is_root ? 2 : 0;
    node.attributes.allocated_bytes = 0;
    node.attributes.device = 0;
    node.attributes.accessed_ns = o.attributes.modified_ns;
    if (o.attributes.type == FileType::Symlink) node.rarely();
    if (is_directory) node.children = std::make_unique<Inode::Children>();
    if (is_root) node.parent = number;
    next_inode_ = std::max(next_inode_, InodeNo(number.raw() + 1));
    return {};
}

Status State::on(const op::UpdateInode& o) {
    auto* node = find_inode(o.attributes.inode);
    if (node == nullptr) return misfit("an unknown inode is changed");
    if (node->attributes.type != o.attributes.type) return misfit("an inode changes its type");
    // What other operations say stays as it is.
    auto updated = o.attributes;
    updated.links = node->attributes.links;
    updated.allocated_bytes = node->attributes.allocated_bytes;
    updated.device = node->attributes.device;
    updated.accessed_ns = node->attributes.accessed_ns;
    node->attributes = updated;
    return {};
}

Status State::on(const op::RemoveInode& o) {
    const auto* node = inode(o.inode);
    if (node == nullptr) return misfit("an unknown inode is removed");
    if (node->is_named() || !node->extents.empty() || (node->children && !node->children->empty()))
        return misfit("inode " + std::to_string(o.inode.raw()) + " is removed while it is in use");
    inodes_.erase(o.inode);
    taken_over_.erase(o.inode);
    return {};
}

Status State::on(const op::LinkName& o) {
    auto* parent = find_inode(o.parent);
    auto* child = find_inode(o.child);
    if (parent == nullptr || child == nullptr || !parent->is_directory())
        return misfit("a name without its inodes");
    if (!is_valid_name(o.name)) return misfit("an impossible name");
    if (parent->children->contains(o.name)) return misfit("a name is there twice");
    if (child->is_symlink() && child->target().empty()) return misfit("a link leads nowhere");
    if (child->is_directory() && (child->is_named() || is_above(o.child, o.parent)))
        return misfit("a directory has two names or is above itself");
    parent->children->emplace(o.name, o.child);
    if (child->is_named()) {
        child->rarely().names.emplace(o.parent, o.name);
    } else {
        child->parent = o.parent;
        child->name = o.name;
    }
    // A directory is counted by its name, its own "." and the ".." of those in it.
    if (child->is_directory()) ++parent->attributes.links;
    child->attributes.links += child->is_directory() ? 2 : 1;
    return {};
}

Status State::on(const op::UnlinkName& o) {
    auto* parent = find_inode(o.parent);
    if (parent == nullptr || !parent->is_directory())
        return misfit("a name without its directory is removed");
    const auto entry = parent->children->find(o.name);
    if (entry == parent->children->end()) return misfit("an unknown name is removed");
    auto* child = find_inode(entry->second);
    CHECK(child != nullptr);
    parent->children->erase(entry);
    if (child->parent != o.parent || child->name != o.name) {
        CHECK(child->rare && child->rare->names.erase({o.parent, o.name}) == 1);
    } else if (child->rare && !child->rare->names.empty()) {
        auto next = child->rare->names.extract(child->rare->names.begin());
        std::tie(child->parent, child->name) = std::move(next.value());
    } else {
        child->parent = InodeNo();
        child->name.clear();
    }
    if (child->is_directory()) --parent->attributes.links;
    child->attributes.links -= child->is_directory() ? 2 : 1;
    return {};
}

Status State::on(const op::OwnSegment& o) {
    auto* map = find_map(o.device);
    if (map == nullptr || o.segment.raw() >= map->segment_count())
        return misfit("an unknown segment gets an owner");
    if (o.owner.kind == SegmentOwner::Kind::Metadata)
        return misfit("a segment of metadata in the log itself");
    if (map->owner(o.segment)) return misfit("a segment gets a second owner");
    map->set_owner(o.segment, o.owner);
    return {};
}

Status State::on(const op::DisownSegment& o) {
    auto* map = find_map(o.device);
    if (map == nullptr || o.segment.raw() >= map->segment_count() || !map->owner(o.segment) ||
        map->owner(o.segment)->kind == SegmentOwner::Kind::Metadata)
        return misfit("a segment without an owner is freed");
    if (map->record_count(o.segment) > 0) return misfit("a segment is freed that holds extents");
    map->clear_owner(o.segment);
    return {};
}

Status State::on(const op::AddExtent& o) {
    const auto& e = o.extent;
    auto* node = find_inode(e.inode);
    auto* map = find_map(e.device);
    if (node == nullptr || map == nullptr || !node->has_bytes())
        return misfit(describe(e) + " has no file or device");
    if (!map->is_place(e.device_offset, e.length) ||
        !base::is_aligned(e.file_offset, base::kPageBytes) || e.replica >= kReplicasMax)
        return misfit(describe(e) + " is out of bounds");
    const auto& owner =
        map->owner(SegmentNo(static_cast<std::uint32_t>(e.device_offset / map->segment_bytes())));
    const bool may_have =
        owner && (owner->kind == SegmentOwner::Kind::SharedByUser ||
                  (owner->kind == SegmentOwner::Kind::Exclusive && owner->inode == e.inode));
    if (!may_have) return misfit(describe(e) + " lies in a segment of somebody else");
    if (node->extents.overlaps(e.replica, e.file_range()) ||
        map->overlaps(e.device_offset, e.length))
        return misfit(describe(e) + " overlaps another");
    node->extents.add(e, map->segment_bytes());
    if (e.replica == 0) node->attributes.allocated_bytes += e.length;
    map->add(e);
    return {};
}

Status State::on(const op::CutExtent& o) {
    const auto& e = o.extent;
    auto* node = find_inode(e.inode);
    auto* map = find_map(e.device);
    if (node == nullptr || map == nullptr || !map->is_place(e.device_offset, e.length) ||
        !node->extents.holds(e) || !base::is_aligned(e.file_offset, base::kPageBytes) ||
        !map->holds(e))
        return misfit(describe(e) + " is dropped but not there");
    node->extents.cut(e);
    if (e.replica == 0) node->attributes.allocated_bytes -= e.length;
    map->cut(e);
    return {};
}

Status State::on(const op::DropExtents& o) {
    auto* node = find_inode(o.inode);
    if (node == nullptr || !base::is_aligned(o.begin, base::kPageBytes))
        return misfit("extents without a file are dropped");
    for (const auto& extent : node->extents.overlapping(o.inode, FileRange(o.begin, UINT64_MAX))) {
        node->extents.cut(extent);
        if (extent.replica == 0) node->attributes.allocated_bytes -= extent.length;
        find_map(extent.device)->cut(extent);
    }
    node->lost.clear(FileRange(o.begin, UINT64_MAX));
    if (!node->rare || node->rare->taken_over.empty()) return {};
    node->rare->taken_over.subtract(FileRange(o.begin, UINT64_MAX));
    if (node->rare->taken_over.empty()) taken_over_.erase(o.inode);
    return {};
}

Status State::on(const op::RenumberExtent& o) {
    auto to = o.extent;
    to.replica = o.replica;
    const auto* node = inode(o.extent.inode);
    if (node == nullptr || o.replica >= kReplicasMax ||
        node->extents.overlaps(o.replica, o.extent.file_range()))
        return misfit(describe(o.extent) + " becomes a replica that is there");
    RETURN_IF_ERROR(on(op::CutExtent{o.extent}));
    return on(op::AddExtent{to});
}

Status State::on(const op::MarkLost& o) {
    auto* node = find_inode(o.inode);
    const auto range = o.lost.range;
    if (node == nullptr || !node->has_bytes() || range.empty() ||
        !base::is_aligned(range.begin(), base::kPageBytes) ||
        !base::is_aligned(range.end(), base::kPageBytes))
        return misfit("an impossible part of a file is lost");
    node->lost.add(o.lost);
    return {};
}

Status State::on(const op::ClearLost& o) {
    auto* node = find_inode(o.inode);
    if (node == nullptr || o.begin > o.end || !base::is_aligned(o.begin, base::kPageBytes) ||
        !base::is_aligned(o.end, base::kPageBytes))
        return misfit("an impossible part of a file is found again");
    node->lost.clear(FileRange(o.begin, o.end));
    return {};
}

Status State::on(const op::LoseDevice& o) {
    if (!is_possible_shape(o.segment_bytes, o.segment_count) || o.name.empty())
        return misfit("a lost device has an impossible shape");
    std::uint64_t generation = 0;
    if (const auto* known = device(o.id)) {
        generation = known->generation;
        RETURN_IF_ERROR(on(op::RemoveDevice{o.id}));
    }
    auto& absent = absent_[o.id];
    absent.generation = generation;
    absent.uuid = o.uuid;
    absent.name = o.name;
    absent.segment_bytes = o.segment_bytes;
    absent.segment_count = o.segment_count;
    return {};
}

Status State::on(const op::NoteAbsent& o) {
    if (o.extent.length == 0 || o.extent.replica >= kReplicasMax)
        return misfit(describe(o.extent) + " is absent but impossible");
    absent_[o.extent.device].extents.push_back(o.extent);
    return {};
}

Status State::on(const op::SetGeneration& o) {
    if (const auto here = devices_.find(o.id); here != devices_.end())
        here->second.generation = o.generation;
    else if (const auto absent = absent_.find(o.id); absent != absent_.end())
        absent->second.generation = o.generation;
    else
        return misfit("a generation of a device that nobody knows");
    return {};
}
Status State::on(const op::ForgetAbsent& o) {
    if (absent_.erase(o.id) == 0) return misfit("a device is forgotten that nobody knows");
    return {};
}

Status State::on(const op::SetUnsynced& o) {
    auto* node = find_inode(o.inode);
    if (node == nullptr || !node->has_bytes()) return misfit("copies without a file");
    node->is_unsynced = o.is_unsynced;
    return {};
}

Status State::on(const op::SetTakenOver& o) {
    auto* node = find_inode(o.inode);
    if (node == nullptr || !node->has_bytes()) return misfit("copies without a file");
    if (o.begin >= o.end || o.begin % base::kPageBytes != 0 || o.end % base::kPageBytes != 0)
        return misfit("an impossible range of a file is taken over");
    auto& parts = node->rarely().taken_over;
    if (o.is_taken_over)
        parts.add(FileRange(o.begin, o.end));
    else
        parts.subtract(FileRange(o.begin, o.end));
    if (parts.empty())
        taken_over_.erase(o.inode);
    else
        taken_over_.insert(o.inode);
    return {};
}

Status State::on(const op::SetNode& o) {
    auto* node = find_inode(o.inode);
    if (node == nullptr || node->is_named()) return misfit("an unknown node stands for something");
    const auto type = node->attributes.type;
    const bool is_device = type == FileType::CharDevice || type == FileType::BlockDevice;
    if ((type == FileType::Symlink) == o.target.empty() || (o.device != 0 && !is_device))
        return misfit("inode " + std::to_string(o.inode.raw()) + " stands for what it cannot");
    node->attributes.device = o.device;
    if (type == FileType::Symlink) node->rarely().target = o.target;
    return {};
}

Status State::on(const op::SetTimes& o) {
    auto* node = find_inode(o.inode);
    if (node == nullptr) return misfit("an unknown inode is touched");
    node->attributes.accessed_ns = o.accessed_ns;
    node->attributes.modified_ns = o.modified_ns;
    node->attributes.changed_ns = o.changed_ns;
    return {};
}

Status State::on(const op::SetExtended& o) {
    auto* node = find_inode(o.inode);
    if (node == nullptr || o.name.empty()) return misfit("an attribute of nothing");
    node->rarely().extended.insert_or_assign(o.name, o.value);
    return {};
}

Status State::on(const op::RemoveExtended& o) {
    auto* node = find_inode(o.inode);
    if (node == nullptr || !node->rare || node->rare->extended.erase(o.name) == 0)
        return misfit("an unknown attribute is removed");
    return {};
}

}  // namespace refault::store
