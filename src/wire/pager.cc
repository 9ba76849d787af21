// The pager channel's messages.
#include "wire/codec.h"

namespace refault::wire {

using base::Code;
using base::Error;

namespace {

Bytes encode_one(const Doorbell&) { return begin_message(Type::Doorbell).take(); }

Bytes encode_one(const Fetch& fetch) { return begin_message(Type::Fetch).u64(fetch.placed).take(); }

Bytes encode_one(const Places& places) {
    auto out = begin_message(Type::Places);
    out.u64(places.sequence).u32(static_cast<std::uint32_t>(places.places.size()));
    for (const auto& place : places.places) {
        out.u64(place.mapping.raw()).u64(place.address).u64(place.length).u16(place.descriptor).u64(place.segment_offset);
        encode_access(out, place.access);
    }
    return out.take();
}

Places take_places(Decoder& in) {
    Places places;
    places.sequence = in.u64();
    const auto count = in.u32();
    if (count > kPlacesMax) in.fail();
    for (std::uint32_t i = 0; in.ok() && i < count; ++i) {
        Place place;
        place.mapping = MappingId(in.u64());
        place.address = in.u64();
        place.length = in.u64();
        place.descriptor = in.u16();
        place.segment_offset = in.u64();
        place.access = decode_access(in);
        places.places.push_back(place);
    }
    return places;
}

}  // namespace

Bytes encode(const PagerMessage& message) {
    return std::visit([](const auto& m) { return encode_one(m); }, message);
}

Result<PagerMessage> decode_pager_message(std::span<const std::uint8_t> bytes) {
    Decoder in(bytes);
    auto type = take_header(in, bytes);
    if (!type) return type.error();
    PagerMessage message;
    switch (*type) {
        case Type::Doorbell: message = Doorbell{}; break;
        case Type::Fetch: message = Fetch{in.u64()}; break;
        case Type::Places: message = take_places(in); break;
        default: return Error(Code::Corrupt, "a message of another kind on the pager channel");
    }
    RETURN_IF_ERROR(in.finish("a pager message"));
    return message;
}

}  // namespace refault::wire
