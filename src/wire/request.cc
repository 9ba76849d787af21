// Hello and requests: client to daemon.
#include "wire/codec.h"

namespace refault::wire {

using base::Code;
using base::Error;

namespace {

void put(Encoder& out, const CreateFile& m) {
    out.text(m.path).u32(m.mode);
    encode_bool(out, m.exclusive);
}
void put(Encoder& out, const OpenFile& m) {
    out.text(m.path);
    encode_access(out, m.access);
}
void put(Encoder& out, const CloseFile& m) {
    out.u32(m.handle);
}
void put(Encoder& out, const Resize& m) {
    out.u32(m.handle).u64(m.size_bytes);
}
void put(Encoder& out, const StatHandle& m) {
    out.u32(m.handle);
}
void put(Encoder& out, const StatPath& m) {
    out.text(m.path);
}
void put(Encoder& out, const Map& m) {
    out.u32(m.handle).u64(m.offset).u64(m.length).u64(m.address);
    encode_access(out, m.access);
    encode_bool(out, m.populate);
}
void put(Encoder& out, const Unmap& m) {
    out.u64(m.mapping.raw());
}
void put(Encoder& out, const List& m) {
    out.text(m.path).text(m.after);
}
void put(Encoder& out, const Unlink& m) {
    out.text(m.path);
}
void put(Encoder& out, const MakeDirectory& m) {
    out.text(m.path).u32(m.mode);
}
void put(Encoder& out, const RemoveDirectory& m) {
    out.text(m.path);
}
void put(Encoder& out, const Rename& m) {
    out.text(m.from).text(m.to);
}

void put(Encoder& out, const Accept& m) {
    out.u64(m.mapping.raw()).u64(m.offset).u64(m.length);
}
void put(Encoder& out, const SetNotice& m) {
    encode_bool(out, m.early);
}
void put(Encoder& out, const Punch& m) {
    out.u32(m.handle).u64(m.offset).u64(m.length);
}
void put(Encoder& out, const Reopen& m) {
    out.text(m.ticket).u32(m.handle);
}
void put(Encoder& out, const Remap& m) {
    out.text(m.ticket).u64(m.offset).u64(m.length).u64(m.address);
    encode_access(out, m.access);
    out.u8(m.replicas);
    out.u32(static_cast<std::uint32_t>(m.held.size()));
    for (const auto& part : m.held) out.u64(part.offset).u64(part.length);
}

Type type_of(const CreateFile&) {
    return Type::CreateFile;
}
Type type_of(const OpenFile&) {
    return Type::OpenFile;
}
Type type_of(const CloseFile&) {
    return Type::CloseFile;
}
Type type_of(const Resize&) {
    return Type::Resize;
}
Type type_of(const StatHandle&) {
    return Type::StatHandle;
}
Type type_of(const StatPath&) {
    return Type::StatPath;
}
Type type_of(const Map&) {
    return Type::Map;
}
Type type_of(const Unmap&) {
    return Type::Unmap;
}
Type type_of(const List&) {
    return Type::List;
}
Type type_of(const Unlink&) {
    return Type::Unlink;
}
Type type_of(const MakeDirectory&) {
    return Type::MakeDirectory;
}
Type type_of(const RemoveDirectory&) {
    return Type::RemoveDirectory;
}
Type type_of(const Rename&) {
    return Type::Rename;
}
Type type_of(const Accept&) {
    return Type::Accept;
}
Type type_of(const SetNotice&) {
    return Type::SetNotice;
}
Type type_of(const Punch&) {
    return Type::Punch;
}
Type type_of(const Reopen&) {
    return Type::Reopen;
}
Type type_of(const Remap&) {
    return Type::Remap;
}

Map take_map(Decoder& in) {
    Map m;
    m.handle = in.u32();
    m.offset = in.u64();
    m.length = in.u64();
    m.address = in.u64();
    m.access = decode_access(in);
    m.populate = decode_bool(in);
    return m;
}

Remap take_remap(Decoder& in) {
    Remap m;
    m.ticket = in.text(kTicketBytesMax);
    m.offset = in.u64();
    m.length = in.u64();
    m.address = in.u64();
    m.access = decode_access(in);
    m.replicas = in.u8();
    if (m.replicas == 0 || m.replicas > kReplicasMax) in.fail();
    const auto count = in.u32();
    if (count > kHeldPartsMax) in.fail();
    for (std::uint32_t i = 0; in.ok() && i < count; ++i) m.held.push_back({in.u64(), in.u64()});
    return m;
}

// Braced initialisation evaluates from left to right, so fields are taken in order.
Result<Request> take_request(Type type, Decoder& in) {
    constexpr auto kPath = kPathBytesMax;
    switch (type) {
        case Type::CreateFile:
            return Request(CreateFile{in.text(kPath), in.u32(), decode_bool(in)});
        case Type::OpenFile:
            return Request(OpenFile{in.text(kPath), decode_access(in)});
        case Type::CloseFile:
            return Request(CloseFile{in.u32()});
        case Type::Resize:
            return Request(Resize{in.u32(), in.u64()});
        case Type::StatHandle:
            return Request(StatHandle{in.u32()});
        case Type::StatPath:
            return Request(StatPath{in.text(kPath)});
        case Type::Map:
            return Request(take_map(in));
        case Type::Unmap:
            return Request(Unmap{MappingId(in.u64())});
        case Type::List:
            return Request(List{in.text(kPath), in.text(kPath)});
        case Type::Unlink:
            return Request(Unlink{in.text(kPath)});
        case Type::MakeDirectory:
            return Request(MakeDirectory{in.text(kPath), in.u32()});
        case Type::RemoveDirectory:
            return Request(RemoveDirectory{in.text(kPath)});
        case Type::Rename:
            return Request(Rename{in.text(kPath), in.text(kPath)});
        case Type::Accept:
            return Request(Accept{MappingId(in.u64()), in.u64(), in.u64()});
        case Type::SetNotice:
            return Request(SetNotice{decode_bool(in)});
        case Type::Punch:
            return Request(Punch{in.u32(), in.u64(), in.u64()});
        case Type::Reopen:
            return Request(Reopen{in.text(kTicketBytesMax), in.u32()});
        case Type::Remap:
            return Request(take_remap(in));
        default:
            return Error(Code::Corrupt, "a message of an unknown type where a request was due");
    }
}

}  // namespace

Bytes encode(const Hello& hello) {
    auto out = begin_message(Type::Hello);
    encode_bool(out, hello.handles_kernel_faults);
    encode_bool(out, hello.returns);
    return out.take();
}

Result<Hello> decode_hello(std::span<const std::uint8_t> bytes) {
    Decoder in(bytes);
    auto type = take_header(in, bytes);
    if (!type) return type.error();
    if (*type != Type::Hello) return Error(Code::Corrupt, "the first message is not Hello");
    Hello hello{decode_bool(in), decode_bool(in)};
    RETURN_IF_ERROR(in.finish("Hello"));
    return hello;
}

Bytes encode(const Request& request) {
    return std::visit(
        [](const auto& m) {
            auto out = begin_message(type_of(m));
            put(out, m);
            return out.take();
        },
        request);
}

Result<Request> decode_request(std::span<const std::uint8_t> bytes) {
    Decoder in(bytes);
    auto type = take_header(in, bytes);
    if (!type) return type.error();
    auto request = take_request(*type, in);
    if (!request) return request;
    RETURN_IF_ERROR(in.finish("a request"));
    return request;
}

}  // namespace refault::wire
