// The pager channel's messages.
#include "wire/codec.h"

namespace refault::wire {

using base::Code;
using base::Error;

namespace {

Bytes encode_one(const Doorbell&) {
    return begin_message(Type::Doorbell).take();
}

Bytes encode_one(const Fetch& fetch) {
    return begin_message(Type::Fetch).u64(fetch.placed).take();
}

Bytes encode_one(const Places& places) {
    auto out = begin_message(Type::Places);
    out.u64(places.sequence).u32(static_cast<std::uint32_t>(places.places.size()));
    for (const auto& place : places.places) {
        out.u64(place.mapping.raw())
            .u64(place.address)
            .u64(place.length)
            .u16(place.descriptor)
            .u64(place.segment_offset);
        encode_access(out, place.access);
    }
    return out.take();
}

bool is_sound(const Place& place) {
    const auto is_span = [&](std::uint64_t begin) {
        return base::is_aligned(begin, base::kPageBytes) && begin + place.length > begin;
    };
    return base::is_aligned(place.length, base::kPageBytes) && is_span(place.address) &&
           is_span(place.segment_offset);
}

void take_places(Decoder& in, Places& places) {
    places.sequence = in.u64();
    places.places.clear();
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
        if (in.ok() && !is_sound(place)) in.fail();
        places.places.push_back(place);
    }
}

Places take_places(Decoder& in) {
    Places places;
    take_places(in, places);
    return places;
}

Error wrong_kind() {
    return Error(Code::Corrupt, "a message of another kind on the pager channel");
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
        case Type::Doorbell:
            message = Doorbell{};
            break;
        case Type::Fetch:
            message = Fetch{in.u64()};
            break;
        case Type::Places:
            message = take_places(in);
            break;
        default:
            return wrong_kind();
    }
    RETURN_IF_ERROR(in.finish("a pager message"));
    return message;
}

Result<FromDaemon> decode_from_daemon(std::span<const std::uint8_t> bytes, Places& places) {
    Decoder in(bytes);
    auto type = take_header(in, bytes);
    if (!type) return type.error();
    if (*type != Type::Doorbell && *type != Type::Places) return wrong_kind();
    if (*type == Type::Places) take_places(in, places);
    RETURN_IF_ERROR(in.finish("a pager message"));
    return *type == Type::Doorbell ? FromDaemon::Doorbell : FromDaemon::Places;
}

// The same layout as encode_one(Fetch), which a test holds it to.
std::array<std::uint8_t, kFetchBytes> encode_fetch(const Fetch& fetch) {
    std::array<std::uint8_t, kFetchBytes> bytes;
    auto at = bytes.begin();
    const auto put = [&at](std::uint64_t value, int width) {
        for (; width > 0; --width, value >>= 8) *at++ = static_cast<std::uint8_t>(value);
    };
    put(kMagic, 4);
    put(kProtocolVersion, 2);
    put(static_cast<std::uint64_t>(Type::Fetch), 2);
    put(fetch.placed, 8);
    return bytes;
}

}  // namespace refault::wire
