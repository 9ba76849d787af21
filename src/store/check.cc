// The consistency checker: every invariant of store.h, looked at from both sides. It reads the
// metadata and the lists of segment files, no file's bytes.
#include <algorithm>
#include <set>

#include "base/range_set.h"
#include "store/check_report.h"
#include "store/layout_table.h"
#include "store/metadata_segments.h"
#include "store/move_book.h"
#include "store/store.h"

namespace refault::store {

using base::MutexLock;

namespace {

std::string text_of(const Extent& e) {
    return "inode " + std::to_string(e.inode.raw()) + " [" + std::to_string(e.file_offset) + ", +" +
           std::to_string(e.length) + ")";
}

std::string text_of(const std::string& device, SegmentNo segment) {
    return device + " segment " + std::to_string(segment.raw());
}

bool may_have(const SegmentOwner& owner, InodeNo inode) {
    return owner.kind == SegmentOwner::Kind::SharedByUser ||
           (owner.kind == SegmentOwner::Kind::Exclusive && owner.inode == inode);
}

bool shares_device(const Extent& copy, const std::vector<Extent>& extents) {
    return std::any_of(extents.begin(), extents.end(), [&](const Extent& other) {
        return other.replica < copy.replica && other.device == copy.device &&
               other.file_range().overlaps(copy.file_range());
    });
}

// A file's extents: nothing beyond the size, no copy of what neither has a primary nor is lost,
// copies on different devices; each known to the reverse map.
std::uint64_t check_file(const State& state, const Inode& node, Report& report) {
    const auto inode = node.attributes.inode;
    const auto who = "inode " + std::to_string(inode.raw());
    const auto extents = node.extents.overlapping(inode, FileRange(0, UINT64_MAX));
    const auto size = base::align_up(node.attributes.size_bytes, base::kPageBytes);
    base::RangeSet covered;
    std::uint64_t primary_bytes = 0;
    for (const auto& extent : extents) {
        if (extent.file_offset + extent.length > size)
            report.add(text_of(extent) + " lies beyond the end of its file");
        if (extent.replica == 0) {
            covered.add(extent.file_range());
            primary_bytes += extent.length;
        } else if (shares_device(extent, extents)) {
            report.add(text_of(extent) + " has two copies on one device");
        }
        const auto* device = state.device(extent.device);
        if (device == nullptr || !device->map.is_place(extent.device_offset, extent.length) ||
            !device->map.holds(extent))
            report.add(text_of(extent) + " is not in the reverse map");
    }
    for (const auto& lost : node.lost.all()) {
        covered.add(lost.range);
        if (lost.range.end() > size) report.add(who + " has lost what lies beyond its end");
    }
    for (const auto& extent : extents)
        if (extent.replica != 0 && !covered.gaps(extent.file_range()).empty())
            report.add(text_of(extent) + " is a copy of nothing");
    if (primary_bytes != node.attributes.allocated_bytes)
        report.add(who + " has a wrong count of bytes");
    return extents.size();
}

bool has_name(const Inode& node, InodeNo directory, const std::string& name) {
    return (node.parent == directory && node.name == name) ||
           (node.rare && node.rare->names.contains({directory, name}));
}

void check_names(const State& state, const Inode& node, Report& report) {
    const auto who = "inode " + std::to_string(node.attributes.inode.raw());
    const auto check_one = [&](InodeNo directory, const std::string& name) {
        const auto* parent = state.inode(directory);
        if (parent == nullptr || !parent->is_directory()) {
            report.add(who + " lies in no directory");
            return;
        }
        const auto entry = parent->children->find(name);
        if (entry == parent->children->end() || entry->second != node.attributes.inode)
            report.add(who + " has a name that its directory does not know");
    };
    check_one(node.parent, node.name);
    if (node.rare)
        for (const auto& [directory, name] : node.rare->names) check_one(directory, name);
    if (!state.path_of(node.attributes.inode).starts_with('/'))
        report.add(who + " cannot be reached from the root");
    if (!node.is_directory() && node.attributes.links != node.name_count())
        report.add(who + " has a wrong count of links");
}

void check_directory(const State& state, const Inode& node, Report& report) {
    std::uint32_t links = node.is_named() ? 2 : 0;
    for (const auto& [name, number] : *node.children) {
        const auto* child = state.inode(number);
        if (child == nullptr || !has_name(*child, node.attributes.inode, name))
            report.add("directory " + std::to_string(node.attributes.inode.raw()) +
                       " has a wrong entry " + name);
        else if (child->is_directory())
            ++links;
    }
    if (links != node.attributes.links)
        report.add("directory " + std::to_string(node.attributes.inode.raw()) +
                   " has a wrong count of links");
}

}  // namespace

void check_inodes(const State& state, const std::function<bool(InodeNo)>& is_held, Report& report) {
    std::uint64_t in_files = 0;
    for (const auto& [number, node] : state.inodes()) {
        if (number != node.attributes.inode)
            report.add("inode " + std::to_string(number.raw()) + " has another number inside");
        if (number >= state.next_inode())
            report.add("inode " + std::to_string(number.raw()) + " would be given again");
        if (node.is_directory())
            check_directory(state, node, report);
        else
            in_files += check_file(state, node, report);
        if (number == base::kRootInode) continue;
        if (node.is_named())
            check_names(state, node, report);
        else if (!is_held(number))
            report.add("inode " + std::to_string(number.raw()) + " has neither name nor holder");
    }
    std::uint64_t in_devices = 0;
    for (const auto& [id, device] : state.devices()) in_devices += device.map.extent_count();
    if (in_files != in_devices)
        report.add("files have " + std::to_string(in_files) + " extents, the reverse map has " +
                   std::to_string(in_devices));
}

void check_segments(const State& state, const Allocator& allocator, const MoveBook& moves,
                    Report& report) {
    for (const auto& [id, device] : state.devices()) {
        for (std::uint32_t i = 0; i < device.map.segment_count(); ++i) {
            const SegmentNo segment(i);
            const SegmentKey key{id, segment};
            const auto& owner = device.map.owner(segment);
            const auto booked = allocator.owner(key);
            if (allocator.is_closing(key)) {
                if (owner)
                    report.add(text_of(device.name, segment) + " is being freed but has an owner");
                continue;
            }
            if (owner && booked != owner)
                report.add(text_of(device.name, segment) + " has two owners");
            const bool is_metadata = owner && owner->kind == SegmentOwner::Kind::Metadata;
            if (owner && !is_metadata && device.map.record_count(segment) == 0 &&
                allocator.taken_bytes(key) == 0)
                report.add(text_of(device.name, segment) + " has an owner but nothing in it");
            std::uint64_t taken = is_metadata ? device.map.segment_bytes() : 0;
            std::uint64_t end = 0;
            for (const auto& extent : device.map.extents(segment)) {
                if (extent.device_offset < end)
                    report.add(text_of(extent) + " overlaps another on " + device.name);
                end = extent.device_offset + extent.length;
                taken += extent.length;
                if (!owner || !may_have(*owner, extent.inode))
                    report.add(text_of(extent) + " lies in a segment of somebody else");
                const auto* node = state.inode(extent.inode);
                if (node == nullptr || !node->extents.holds(extent))
                    report.add(text_of(extent) + " is not in its file");
                if (allocator.is_free(id, extent.device_offset, base::kPageBytes))
                    report.add(text_of(extent) + " lies in free space");
            }
            taken += moves.bytes_in(id, device.map.segment_bytes(), segment);
            // Ranges that are being punched at this moment are taken too, but nobody's.
            if (allocator.taken_bytes(key) < taken)
                report.add(text_of(device.name, segment) +
                           " has less space taken than there is in it");
        }
    }
}

void check_files_of(const State& state, const Allocator& allocator, DeviceId id,
                    const device::Device& device,
                    const std::optional<std::vector<SegmentNo>>& log_segments,
                    bool keeps_left_overs, Report& report) {
    const auto& map = state.device(id)->map;
    const auto files = device.list_segments();
    if (!files) {
        report.add("device " + device.name() + ": " + files.error().message());
        return;
    }
    const std::set<SegmentNo> there(files->begin(), files->end());
    for (std::uint32_t i = 0; i < map.segment_count(); ++i) {
        const SegmentNo segment(i);
        const auto& owner = map.owner(segment);
        if (owner && !there.contains(segment))
            report.add(text_of(device.name(), segment) + " has an owner but no file");
        if (!keeps_left_overs && !allocator.owner({id, segment}) && there.contains(segment))
            report.add(text_of(device.name(), segment) + " has a file but no owner");
        if (!log_segments) continue;
        const bool is_listed =
            std::find(log_segments->begin(), log_segments->end(), segment) != log_segments->end();
        const bool is_metadata = owner && owner->kind == SegmentOwner::Kind::Metadata;
        if (is_listed != is_metadata)
            report.add(text_of(device.name(), segment) + (is_listed ? " is" : " is not") +
                       " metadata by the label, otherwise by the reverse map");
    }
}

std::vector<std::string> Store::check() const {
    MutexLock lock(mutex_);
    Report report;
    // What waits for its layout lock to be freed holds itself.
    const auto is_held = [this](InodeNo inode) {
        mutex_.assert_held();
        return keeps_left_overs_ || pins_.contains(inode) || remembered_.contains(inode) ||
               layouts_->wants_idle(inode);
    };
    check_inodes(*state_, is_held, report);
    check_segments(*state_, *allocator_, *moves_, report);
    const auto copies = log_->copies();
    const auto failed = log_->failed_copies();
    for (const auto& [id, device] : devices_) {
        // Nobody knows which of its files are still there.
        if (is_uncleaned_ || failed_devices_.contains(id)) continue;
        std::optional<std::vector<SegmentNo>> log_segments;
        if (std::find(copies.begin(), copies.end(), id) != copies.end())
            log_segments = device->label().metadata_segments;
        else if (std::find(failed.begin(), failed.end(), id) == failed.end())
            log_segments.emplace();
        check_files_of(*state_, *allocator_, id, *device, log_segments, keeps_left_overs_, report);
    }
    return report.take();
}

}  // namespace refault::store
