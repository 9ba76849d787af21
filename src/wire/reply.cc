// Replies: daemon to client.
#include "wire/codec.h"

namespace refault::wire {

using base::Code;
using base::Error;

namespace {

constexpr std::uint32_t kEntriesMax = 4096;

void put(Encoder& out, const FileInfo& info) {
    out.u64(info.inode);
    encode_bool(out, info.is_directory);
    out.u32(info.mode).u32(info.uid).u32(info.gid).u32(info.links);
    out.u64(info.size_bytes).u64(info.modified_ns).u64(info.changed_ns);
}

FileInfo take_info(Decoder& in) {
    FileInfo info;
    info.inode = in.u64();
    info.is_directory = decode_bool(in);
    info.mode = in.u32();
    info.uid = in.u32();
    info.gid = in.u32();
    info.links = in.u32();
    info.size_bytes = in.u64();
    info.modified_ns = in.u64();
    info.changed_ns = in.u64();
    return info;
}

}  // namespace

Bytes encode(const Reply& reply) {
    auto out = begin_message(Type::Reply);
    out.u32(static_cast<std::uint32_t>(reply.error))
        .text(reply.message)
        .u32(reply.handle)
        .u64(reply.mapping.raw());
    put(out, reply.info);
    out.u32(static_cast<std::uint32_t>(reply.entries.size()));
    for (const auto& entry : reply.entries) {
        out.text(entry.name);
        put(out, entry.info);
    }
    encode_bool(out, reply.has_more);
    out.text(reply.pool).u64(reply.session).text(reply.ticket);
    return out.take();
}

Result<Reply> decode_reply(std::span<const std::uint8_t> bytes) {
    Decoder in(bytes);
    auto type = take_header(in, bytes);
    if (!type) return type.error();
    if (*type != Type::Reply)
        return Error(Code::Corrupt, "a message of another type where a reply was due");
    Reply reply;
    reply.error = static_cast<std::int32_t>(in.u32());
    reply.message = in.text(kMessageBytesMax);
    reply.handle = in.u32();
    reply.mapping = MappingId(in.u64());
    reply.info = take_info(in);
    const auto count = in.u32();
    if (count > kEntriesMax) in.fail();
    for (std::uint32_t i = 0; in.ok() && i < count; ++i) {
        auto name = in.text(kPathBytesMax);
        reply.entries.push_back({std::move(name), take_info(in)});
    }
    reply.has_more = decode_bool(in);
    reply.pool = in.text(kPathBytesMax);
    reply.session = in.u64();
    reply.ticket = in.text(kTicketBytesMax);
    if (reply.error < 0) in.fail();
    RETURN_IF_ERROR(in.finish("a reply"));
    return reply;
}

}  // namespace refault::wire
