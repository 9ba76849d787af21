// The closed set of changes to the metadata. A transaction of the log and a chunk of a checkpoint
// image are both a plain sequence of these, each a kind byte and its fields (base/codec.h); the
// state is the fold of all of them.
//
// Invariant: decoding gives Corrupt for anything that encoding does not write; whether an operation
// fits the state is for State::apply to say. Attributes travel without what other operations say:
// links, allocated bytes, the time of access, and what a node stands for. Value types.
#pragma once

#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/codec.h"
#include "base/result.h"
#include "base/uuid.h"
#include "store/types.h"

namespace refault::store {

using base::Bytes;
using base::Result;
using base::Status;

inline constexpr std::uint32_t kNameBytesMax = 255;
// Of a symbolic link, as the kernel's limit for paths without the end.
inline constexpr std::uint32_t kTargetBytesMax = 4095;
// Of one extended attribute.
inline constexpr std::uint32_t kValueBytesMax = 64 * 1024;

namespace op {

struct SetPool {  // kind 1
    base::Uuid uuid;
    std::string name;
    bool operator==(const SetPool&) const = default;
};
// Numbers already given, so that none is given twice.
struct SetCounters {  // kind 2
    InodeNo next_inode;
    DeviceId next_device;
    bool operator==(const SetCounters&) const = default;
};
struct AddDevice {  // kind 3
    DeviceId id;
    base::Uuid uuid;
    std::string name;
    std::uint64_t segment_bytes = 0;
    std::uint32_t segment_count = 0;
    bool operator==(const AddDevice&) const = default;
};
struct RemoveDevice {  // kind 4
    DeviceId id;
    bool operator==(const RemoveDevice&) const = default;
};
struct CreateInode {  // kind 5
    Attributes attributes;
};
struct UpdateInode {  // kind 6
    Attributes attributes;
};
struct RemoveInode {  // kind 7
    InodeNo inode;
    bool operator==(const RemoveInode&) const = default;
};
struct LinkName {  // kind 8
    InodeNo parent;
    std::string name;
    InodeNo child;
    bool operator==(const LinkName&) const = default;
};
struct UnlinkName {  // kind 9
    InodeNo parent;
    std::string name;
    bool operator==(const UnlinkName&) const = default;
};
// Owner SharedByUser or Exclusive; which segments hold metadata is written in the devices' labels.
struct OwnSegment {  // kind 10
    DeviceId device;
    SegmentNo segment;
    SegmentOwner owner;
    bool operator==(const OwnSegment&) const = default;
};
struct DisownSegment {  // kind 11
    DeviceId device;
    SegmentNo segment;
    bool operator==(const DisownSegment&) const = default;
};
// Joins its neighbours where they continue in file and device.
struct AddExtent {  // kind 12
    Extent extent;
    bool operator==(const AddExtent&) const = default;
};
// Takes this part out of the extent that holds it.
struct CutExtent {  // kind 13
    Extent extent;
    bool operator==(const CutExtent&) const = default;
};

// Takes everything at or behind a page of the file out, of all replicas: one short record, however
// many extents.
struct DropExtents {  // kind 14
    InodeNo inode;
    std::uint64_t begin = 0;
    bool operator==(const DropExtents&) const = default;
};

// Takes an extent's place in the file over as another replica of the same bytes.
struct RenumberExtent {  // kind 15
    Extent extent;
    std::uint32_t replica = 0;
    bool operator==(const RenumberExtent&) const = default;
};
// Whole pages whose last copy is lost; extents may be there (bad memory) or not.
struct MarkLost {  // kind 16
    InodeNo inode;
    LostRange lost;
    bool operator==(const MarkLost&) const = default;
};
struct ClearLost {  // kind 17
    InodeNo inode;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    bool operator==(const ClearLost&) const = default;
};
// The file's copies may differ: somebody may store into it.
struct SetUnsynced {  // kind 18
    InodeNo inode;
    bool is_unsynced = false;
    bool operator==(const SetUnsynced&) const = default;
};

// The device has left without being asked: it may come back, and is then known by its uuid. It
// holds nothing any more, or has left already (in an image).
struct LoseDevice {  // kind 19
    DeviceId id;
    base::Uuid uuid;
    std::string name;
    std::uint64_t segment_bytes = 0;
    std::uint32_t segment_count = 0;
    bool operator==(const LoseDevice&) const = default;
};
// What a device that is lost, or about to be, held.
struct NoteAbsent {  // kind 20
    Extent extent;
    bool operator==(const NoteAbsent&) const = default;
};
// It has come back, or nobody waits for it any more.
struct ForgetAbsent {  // kind 21
    DeviceId id;
    bool operator==(const ForgetAbsent&) const = default;
};

// What a symbolic link or a device node stands for. Once, before it has a name.
struct SetNode {  // kind 22
    InodeNo inode;
    std::uint64_t device = 0;
    std::string target;
    bool operator==(const SetNode&) const = default;
};
// Shorter than the whole attributes; the only operation that sets the time of access.
struct SetTimes {  // kind 23
    InodeNo inode;
    std::uint64_t accessed_ns = 0;
    std::uint64_t modified_ns = 0;
    std::uint64_t changed_ns = 0;
    bool operator==(const SetTimes&) const = default;
};
// An extended attribute, new or with another value.
struct SetExtended {  // kind 24
    InodeNo inode;
    std::string name;
    Bytes value;
    bool operator==(const SetExtended&) const = default;
};
struct RemoveExtended {  // kind 25
    InodeNo inode;
    std::string name;
    bool operator==(const RemoveExtended&) const = default;
};
// What the device's label says since it was attached; of one that was lost: said when it left.
struct SetGeneration {  // kind 26
    DeviceId id;
    std::uint64_t generation = 0;
    bool operator==(const SetGeneration&) const = default;
};
// Whole pages of which another copy has become the primary, or was written over it, and of which
// not everybody who may have stored there has been told: the next daemon holds them back.
struct SetTakenOver {  // kind 27
    InodeNo inode;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    bool is_taken_over = false;
    bool operator==(const SetTakenOver&) const = default;
};

}  // namespace op

using Operation =
    std::variant<op::SetPool, op::SetCounters, op::AddDevice, op::RemoveDevice, op::CreateInode,
                 op::UpdateInode, op::RemoveInode, op::LinkName, op::UnlinkName, op::OwnSegment,
                 op::DisownSegment, op::AddExtent, op::CutExtent, op::DropExtents,
                 op::RenumberExtent, op::MarkLost, op::ClearLost, op::SetUnsynced, op::LoseDevice,
                 op::NoteAbsent, op::ForgetAbsent, op::SetNode, op::SetTimes, op::SetExtended,
                 op::RemoveExtended, op::SetGeneration, op::SetTakenOver>;

void encode_operation(base::Encoder& encoder, const Operation& operation);
Bytes encode_operations(std::span<const Operation> operations);
Result<std::vector<Operation>> decode_operations(std::span<const std::uint8_t> bytes);

}  // namespace refault::store
