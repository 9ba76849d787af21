// Fields of the operations, in the order of their structs.
#include "store/operation.h"

namespace refault::store {

using base::Code;
using base::Decoder;
using base::Encoder;
using base::Error;

namespace {

constexpr std::uint32_t kDeviceNameBytesMax = 63;

void put(Encoder& out, const Attributes& a) {
    out.u64(a.inode.raw()).u8(static_cast<std::uint8_t>(a.type)).u32(a.mode).u32(a.uid).u32(a.gid);
    out.u64(a.size_bytes).u64(a.modified_ns).u64(a.changed_ns).u64(a.created_ns);
    out.u8(static_cast<std::uint8_t>(a.replicas)).u8(static_cast<std::uint8_t>(a.on_loss));
}

Attributes get_attributes(Decoder& in) {
    Attributes a;
    a.inode = InodeNo(in.u64());
    const auto type = in.u8();
    if (type < static_cast<std::uint8_t>(FileType::Regular) ||
        type > static_cast<std::uint8_t>(FileType::BlockDevice))
        in.fail();
    else
        a.type = static_cast<FileType>(type);
    a.mode = in.u32();
    if (a.mode > kModeBits) in.fail();
    a.uid = in.u32();
    a.gid = in.u32();
    a.size_bytes = in.u64();
    // Sizes are rounded up to pages later.
    if (a.size_bytes > kFileBytesMax) in.fail();
    a.modified_ns = in.u64();
    a.changed_ns = in.u64();
    a.created_ns = in.u64();
    a.replicas = in.u8();
    if (a.replicas == 0 || a.replicas > kCopiesMax) in.fail();
    const auto on_loss = in.u8();
    if (on_loss != static_cast<std::uint8_t>(OnLoss::Signal) &&
        on_loss != static_cast<std::uint8_t>(OnLoss::Rollback))
        in.fail();
    else
        a.on_loss = static_cast<OnLoss>(on_loss);
    return a;
}

void put(Encoder& out, const Extent& e) {
    out.u64(e.inode.raw()).u32(e.replica).u64(e.file_offset);
    out.u32(e.device.raw()).u64(e.device_offset).u64(e.length);
}

Extent get_extent(Decoder& in) {
    Extent e;
    e.inode = InodeNo(in.u64());
    e.replica = in.u32();
    e.file_offset = in.u64();
    e.device = DeviceId(in.u32());
    e.device_offset = in.u64();
    e.length = in.u64();
    // Ranges are made of these fields later, where an overflow would be a broken precondition.
    if (e.file_offset + e.length < e.length || e.device_offset + e.length < e.length) in.fail();
    return e;
}

void put(Encoder& out, const SegmentOwner& owner) {
    out.u8(static_cast<std::uint8_t>(owner.kind));
    out.u64(owner.kind == SegmentOwner::Kind::Exclusive ? owner.inode.raw() : owner.uid);
}

SegmentOwner get_owner(Decoder& in) {
    SegmentOwner owner;
    const auto kind = in.u8();
    const auto who = in.u64();
    if (kind == static_cast<std::uint8_t>(SegmentOwner::Kind::Exclusive)) {
        owner.kind = SegmentOwner::Kind::Exclusive;
        owner.inode = InodeNo(who);
    } else if (kind == static_cast<std::uint8_t>(SegmentOwner::Kind::SharedByUser) &&
               who <= UINT32_MAX) {
        owner.kind = SegmentOwner::Kind::SharedByUser;
        owner.uid = static_cast<uid_t>(who);
    } else {
        in.fail();
    }
    return owner;
}

void put(Encoder& out, const LostRange& lost) {
    out.u64(lost.range.begin()).u64(lost.range.end()).u8(static_cast<std::uint8_t>(lost.kind));
    out.u32(lost.device.raw()).u64(lost.device_offset).u64(lost.lost_ns);
}

LostRange get_lost(Decoder& in) {
    LostRange lost;
    const auto begin = in.u64();
    const auto end = in.u64();
    if (begin > end)
        in.fail();
    else
        lost.range = FileRange(begin, end);
    const auto kind = in.u8();
    if (kind < static_cast<std::uint8_t>(FailureKind::PlannedRemoval) ||
        kind > static_cast<std::uint8_t>(FailureKind::UnderRepair))
        in.fail();
    else
        lost.kind = static_cast<FailureKind>(kind);
    lost.device = DeviceId(in.u32());
    lost.device_offset = in.u64();
    lost.lost_ns = in.u64();
    return lost;
}

base::Uuid get_uuid(Decoder& in) {
    base::Uuid uuid;
    const auto raw = in.raw(uuid.bytes.size());
    std::copy(raw.begin(), raw.end(), uuid.bytes.begin());
    return uuid;
}

bool get_flag(Decoder& in) {
    const auto value = in.u8();
    if (value > 1) in.fail();
    return value == 1;
}

struct Fields {
    Encoder& out;
    void operator()(const op::SetPool& o) { out.raw(o.uuid.bytes).text(o.name); }
    void operator()(const op::SetCounters& o) {
        out.u64(o.next_inode.raw()).u32(o.next_device.raw());
    }
    void operator()(const op::AddDevice& o) {
        out.u32(o.id.raw())
            .raw(o.uuid.bytes)
            .text(o.name)
            .u64(o.segment_bytes)
            .u32(o.segment_count);
    }
    void operator()(const op::RemoveDevice& o) { out.u32(o.id.raw()); }
    void operator()(const op::CreateInode& o) { put(out, o.attributes); }
    void operator()(const op::UpdateInode& o) { put(out, o.attributes); }
    void operator()(const op::RemoveInode& o) { out.u64(o.inode.raw()); }
    void operator()(const op::LinkName& o) {
        out.u64(o.parent.raw()).text(o.name).u64(o.child.raw());
    }
    void operator()(const op::UnlinkName& o) { out.u64(o.parent.raw()).text(o.name); }
    void operator()(const op::OwnSegment& o) {
        out.u32(o.device.raw()).u32(o.segment.raw());
        put(out, o.owner);
    }
    void operator()(const op::DisownSegment& o) { out.u32(o.device.raw()).u32(o.segment.raw()); }
    void operator()(const op::AddExtent& o) { put(out, o.extent); }
    void operator()(const op::CutExtent& o) { put(out, o.extent); }
    void operator()(const op::DropExtents& o) { out.u64(o.inode.raw()).u64(o.begin); }
    void operator()(const op::RenumberExtent& o) {
        put(out, o.extent);
        out.u32(o.replica);
    }
    void operator()(const op::MarkLost& o) {
        out.u64(o.inode.raw());
        put(out, o.lost);
    }
    void operator()(const op::ClearLost& o) { out.u64(o.inode.raw()).u64(o.begin).u64(o.end); }
    void operator()(const op::LoseDevice& o) {
        out.u32(o.id.raw()).raw(o.uuid.bytes).text(o.name).u64(o.segment_bytes);
        out.u32(o.segment_count);
    }
    void operator()(const op::NoteAbsent& o) { put(out, o.extent); }
    void operator()(const op::ForgetAbsent& o) { out.u32(o.id.raw()); }
    void operator()(const op::SetUnsynced& o) { out.u64(o.inode.raw()).u8(o.is_unsynced ? 1 : 0); }
    void operator()(const op::SetNode& o) { out.u64(o.inode.raw()).u64(o.device).text(o.target); }
    void operator()(const op::SetTimes& o) {
        out.u64(o.inode.raw()).u64(o.accessed_ns).u64(o.modified_ns).u64(o.changed_ns);
    }
    void operator()(const op::SetExtended& o) {
        out.u64(o.inode.raw()).text(o.name).bytes(o.value);
    }
    void operator()(const op::RemoveExtended& o) { out.u64(o.inode.raw()).text(o.name); }
    void operator()(const op::SetGeneration& o) { out.u32(o.id.raw()).u64(o.generation); }
    void operator()(const op::SetTakenOver& o) {
        out.u64(o.inode.raw()).u64(o.begin).u64(o.end).u8(o.is_taken_over ? 1 : 0);
    }
};

// Function arguments have no fixed order of evaluation, braces have: every field is read in a
// braced list.
Operation get_operation(Decoder& in) {
    switch (in.u8()) {
        case 1:
            return op::SetPool{get_uuid(in), in.text(kNameBytesMax)};
        case 2:
            return op::SetCounters{InodeNo(in.u64()), DeviceId(in.u32())};
        case 3:
            return op::AddDevice{DeviceId(in.u32()), get_uuid(in), in.text(kDeviceNameBytesMax),
                                 in.u64(), in.u32()};
        case 4:
            return op::RemoveDevice{DeviceId(in.u32())};
        case 5:
            return op::CreateInode{get_attributes(in)};
        case 6:
            return op::UpdateInode{get_attributes(in)};
        case 7:
            return op::RemoveInode{InodeNo(in.u64())};
        case 8:
            return op::LinkName{InodeNo(in.u64()), in.text(kNameBytesMax), InodeNo(in.u64())};
        case 9:
            return op::UnlinkName{InodeNo(in.u64()), in.text(kNameBytesMax)};
        case 10:
            return op::OwnSegment{DeviceId(in.u32()), SegmentNo(in.u32()), get_owner(in)};
        case 11:
            return op::DisownSegment{DeviceId(in.u32()), SegmentNo(in.u32())};
        case 12:
            return op::AddExtent{get_extent(in)};
        case 13:
            return op::CutExtent{get_extent(in)};
        case 14:
            return op::DropExtents{InodeNo(in.u64()), in.u64()};
        case 15:
            return op::RenumberExtent{get_extent(in), in.u32()};
        case 16:
            return op::MarkLost{InodeNo(in.u64()), get_lost(in)};
        case 17:
            return op::ClearLost{InodeNo(in.u64()), in.u64(), in.u64()};
        case 18:
            return op::SetUnsynced{InodeNo(in.u64()), get_flag(in)};
        case 19:
            return op::LoseDevice{DeviceId(in.u32()), get_uuid(in), in.text(kDeviceNameBytesMax),
                                  in.u64(), in.u32()};
        case 20:
            return op::NoteAbsent{get_extent(in)};
        case 21:
            return op::ForgetAbsent{DeviceId(in.u32())};
        case 22:
            return op::SetNode{InodeNo(in.u64()), in.u64(), in.text(kTargetBytesMax)};
        case 23:
            return op::SetTimes{InodeNo(in.u64()), in.u64(), in.u64(), in.u64()};
        case 24:
            return op::SetExtended{InodeNo(in.u64()), in.text(kNameBytesMax),
                                   in.bytes(kValueBytesMax)};
        case 25:
            return op::RemoveExtended{InodeNo(in.u64()), in.text(kNameBytesMax)};
        case 26:
            return op::SetGeneration{DeviceId(in.u32()), in.u64()};
        case 27:
            return op::SetTakenOver{InodeNo(in.u64()), in.u64(), in.u64(), get_flag(in)};
        default:
            in.fail();
            return op::RemoveInode{};
    }
}

}  // namespace

void encode_operation(Encoder& encoder, const Operation& operation) {
    static_assert(std::is_same_v<std::variant_alternative_t<0, Operation>, op::SetPool> &&
                      std::is_same_v<std::variant_alternative_t<13, Operation>, op::DropExtents> &&
                      std::is_same_v<std::variant_alternative_t<17, Operation>, op::SetUnsynced> &&
                      std::variant_size_v<Operation> == 27,
                  "the kind on media is the index in the variant plus one");
    encoder.u8(static_cast<std::uint8_t>(operation.index() + 1));
    std::visit(Fields{encoder}, operation);
}

Bytes encode_operations(std::span<const Operation> operations) {
    Encoder encoder;
    for (const auto& operation : operations) encode_operation(encoder, operation);
    return encoder.take();
}

Result<std::vector<Operation>> decode_operations(std::span<const std::uint8_t> bytes) {
    Decoder decoder(bytes);
    std::vector<Operation> operations;
    while (decoder.ok() && decoder.remaining() > 0) operations.push_back(get_operation(decoder));
    RETURN_IF_ERROR(decoder.finish("a metadata record"));
    return operations;
}

}  // namespace refault::store
