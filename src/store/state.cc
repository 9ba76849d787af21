// Lookups of the state, and its image.
#include "store/state.h"

#include <algorithm>

namespace refault::store {

using base::Encoder;

namespace {
constexpr std::size_t kImageRecordBytes = 32 * 1024;
}

bool is_valid_name(std::string_view name) noexcept {
    return !name.empty() && name.size() <= kNameBytesMax && name != "." && name != ".." &&
           name.find('/') == name.npos && name.find('\0') == name.npos;
}

const Inode* State::inode(InodeNo number) const {
    const auto found = inodes_.find(number);
    return found == inodes_.end() ? nullptr : &found->second;
}

Inode* State::find_inode(InodeNo number) {
    const auto found = inodes_.find(number);
    return found == inodes_.end() ? nullptr : &found->second;
}

const State::Device* State::device(DeviceId id) const {
    const auto found = devices_.find(id);
    return found == devices_.end() ? nullptr : &found->second;
}

const State::Absent* State::absent(DeviceId id) const {
    const auto found = absent_.find(id);
    return found == absent_.end() ? nullptr : &found->second;
}

ReverseMap* State::find_map(DeviceId id) {
    const auto found = devices_.find(id);
    return found == devices_.end() ? nullptr : &found->second.map;
}

bool State::is_above(InodeNo ancestor, InodeNo directory) const {
    for (auto at = directory;;) {
        if (at == ancestor) return true;
        const auto* node = inode(at);
        if (node == nullptr || !node->is_named() || node->parent == at) return false;
        at = node->parent;
    }
}

std::string State::path_of(InodeNo number) const {
    constexpr std::size_t kDepthMax = 64;
    const Inode* chain[kDepthMax];
    std::size_t depth = 0;
    std::size_t length = 0;
    std::string prefix;
    for (auto at = number; at != base::kRootInode;) {
        const auto* node = inode(at);
        if (node == nullptr || !node->is_named()) return "(unlinked)";
        if (depth == kDepthMax) {
            // Seldom: the part above comes from a call of its own.
            prefix = path_of(at);
            break;
        }
        chain[depth++] = node;
        length += node->name.size() + 1;
        at = node->parent;
    }
    if (depth == 0) return "/";
    std::string path = std::move(prefix);
    path.reserve(path.size() + length);
    while (depth > 0) path.append(1, '/').append(chain[--depth]->name);
    return path;
}

std::vector<std::string> State::paths_of(InodeNo number) const {
    const auto* node = inode(number);
    if (node == nullptr || !node->is_named()) return {};
    std::vector<std::string> paths{path_of(number)};
    if (node->rare)
        for (const auto& [directory, name] : node->rare->names)
            paths.push_back((directory == base::kRootInode ? "" : path_of(directory)) + "/" + name);
    std::sort(paths.begin(), paths.end());
    return paths;
}

void State::set_metadata(DeviceId device, SegmentNo segment) {
    auto* map = find_map(device);
    CHECK(map != nullptr);
    map->set_owner(segment, SegmentOwner{SegmentOwner::Kind::Metadata, 0, {}});
}

void State::clear_metadata(DeviceId device, SegmentNo segment) {
    auto* map = find_map(device);
    CHECK(map != nullptr && map->owner(segment) &&
          map->owner(segment)->kind == SegmentOwner::Kind::Metadata);
    map->clear_owner(segment);
}

Status State::apply(const Operation& operation) {
    return std::visit([&](const auto& o) { return on(o); }, operation);
}

Status State::apply_record(std::span<const std::uint8_t> record) {
    auto operations = decode_operations(record);
    if (!operations) return operations.error();
    for (const auto& operation : *operations) RETURN_IF_ERROR(apply(operation));
    return {};
}

std::vector<Bytes> State::image() const {
    std::vector<Bytes> records;
    Encoder encoder;
    const auto put = [&](const Operation& operation) {
        encode_operation(encoder, operation);
        if (encoder.data().size() >= kImageRecordBytes)
            records.push_back(std::exchange(encoder, {}).take());
    };
    put(op::SetPool{pool_uuid_, pool_name_});
    put(op::SetCounters{next_inode_, next_device_});
    // Before the devices: of one that is about to be lost there are notes while it is still a
    // member, and no name yet.
    for (const auto& [id, absent] : absent_) {
        for (const auto& extent : absent.extents) put(op::NoteAbsent{extent});
        if (absent.name.empty()) continue;
        put(op::LoseDevice{id, absent.uuid, absent.name, absent.segment_bytes,
                           absent.segment_count});
        if (absent.generation != 0) put(op::SetGeneration{id, absent.generation});
    }
    for (const auto& [id, device] : devices_) {
        put(op::AddDevice{id, device.uuid, device.name, device.map.segment_bytes(),
                          device.map.segment_count()});
        if (device.generation != 0) put(op::SetGeneration{id, device.generation});
    }
    for (const auto& [number, node] : inodes_) {
        const auto& a = node.attributes;
        put(op::CreateInode{a});
        if (const auto& target = node.is_symlink() ? node.target() : std::string();
            a.device != 0 || !target.empty())
            put(op::SetNode{number, a.device, target});
        if (a.accessed_ns != a.modified_ns)
            put(op::SetTimes{number, a.accessed_ns, a.modified_ns, a.changed_ns});
        if (!node.rare) continue;
        for (const auto& [name, value] : node.rare->extended)
            put(op::SetExtended{number, name, value});
    }
    for (const auto& [number, node] : inodes_) {
        if (!node.is_named() || node.parent == number) continue;
        put(op::LinkName{node.parent, node.name, number});
        if (!node.rare) continue;
        for (const auto& [directory, name] : node.rare->names)
            put(op::LinkName{directory, name, number});
    }
    for (const auto& [id, device] : devices_) {
        for (std::uint32_t i = 0; i < device.map.segment_count(); ++i) {
            const auto& owner = device.map.owner(SegmentNo(i));
            if (!owner || owner->kind == SegmentOwner::Kind::Metadata) continue;
            put(op::OwnSegment{id, SegmentNo(i), *owner});
            for (const auto& extent : device.map.extents(SegmentNo(i))) put(op::AddExtent{extent});
        }
    }
    for (const auto& [number, node] : inodes_) {
        for (const auto& lost : node.lost.all()) put(op::MarkLost{number, lost});
        if (node.is_unsynced) put(op::SetUnsynced{number, true});
        if (!node.rare) continue;
        for (const auto part : node.rare->taken_over.parts())
            put(op::SetTakenOver{number, part.begin(), part.end(), true});
    }
    if (!encoder.data().empty()) records.push_back(encoder.take());
    return records;
}

}  // namespace refault::store
