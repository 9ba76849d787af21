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
        out.u8(static_cast<std::uint8_t>(place.kind)).u8(place.replica);
        encode_bool(out, place.needs_sync);
    }
    return out.take();
}

Bytes encode_one(const Fault& fault) {
    auto out = begin_message(Type::Fault);
    out.u32(fault.ticket).u64(fault.address);
    encode_bool(out, fault.is_poison);
    return out.u8(fault.length_log2).take();
}

Bytes encode_one(const Verdict& verdict) {
    return begin_message(Type::Verdict)
        .u32(verdict.ticket)
        .u8(static_cast<std::uint8_t>(verdict.answer))
        .u64(verdict.address)
        .u64(verdict.length)
        .take();
}

Bytes encode_one(const Notice& notice) {
    return begin_message(Type::Notice)
        .u64(notice.address)
        .u64(notice.length)
        .u8(static_cast<std::uint8_t>(notice.what))
        .take();
}

bool is_sound(const Place& place) {
    const auto is_span = [&](std::uint64_t begin) {
        return base::is_aligned(begin, base::kPageBytes) && begin + place.length > begin;
    };
    const bool has_segment = place.kind == PlaceKind::Segment;
    return base::is_aligned(place.length, base::kPageBytes) && is_span(place.address) &&
           is_span(place.segment_offset) && place.replica < kReplicasMax &&
           has_segment == (place.descriptor != kNoDescriptor);
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
        const auto kind = in.u8();
        if (kind > static_cast<std::uint8_t>(PlaceKind::NoCopy)) in.fail();
        place.kind = static_cast<PlaceKind>(kind);
        place.replica = in.u8();
        place.needs_sync = decode_bool(in);
        if (in.ok() && !is_sound(place)) in.fail();
        places.places.push_back(place);
    }
}

Places take_places(Decoder& in) {
    Places places;
    take_places(in, places);
    return places;
}

Fault take_fault(Decoder& in) {
    Fault fault;
    fault.ticket = in.u32();
    fault.address = in.u64();
    fault.is_poison = decode_bool(in);
    fault.length_log2 = in.u8();
    if (fault.length_log2 > 40) in.fail();
    return fault;
}

Answer take_answer(Decoder& in) {
    const auto value = in.u8();
    if (value > static_cast<std::uint8_t>(Answer::NotOurs)) in.fail();
    return static_cast<Answer>(value);
}

Verdict take_verdict(Decoder& in) {
    Verdict verdict;
    verdict.ticket = in.u32();
    verdict.answer = take_answer(in);
    verdict.address = in.u64();
    verdict.length = in.u64();
    return verdict;
}

Notice take_notice(Decoder& in) {
    Notice notice;
    notice.address = in.u64();
    notice.length = in.u64();
    notice.what = take_answer(in);
    if (notice.address + notice.length < notice.length) in.fail();
    return notice;
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
        case Type::Fault:
            message = take_fault(in);
            break;
        case Type::Verdict:
            message = take_verdict(in);
            break;
        case Type::Notice:
            message = take_notice(in);
            break;
        default:
            return wrong_kind();
    }
    RETURN_IF_ERROR(in.finish("a pager message"));
    return message;
}

Status decode_from_daemon(std::span<const std::uint8_t> bytes, FromDaemon& into) {
    Decoder in(bytes);
    auto type = take_header(in, bytes);
    if (!type) return type.error();
    switch (*type) {
        case Type::Doorbell:
            into.kind = FromDaemon::Kind::Doorbell;
            break;
        case Type::Places:
            into.kind = FromDaemon::Kind::Places;
            take_places(in, into.places);
            break;
        case Type::Verdict:
            into.kind = FromDaemon::Kind::Verdict;
            into.verdict = take_verdict(in);
            break;
        case Type::Notice:
            into.kind = FromDaemon::Kind::Notice;
            into.notice = take_notice(in);
            break;
        default:
            return wrong_kind();
    }
    return in.finish("a pager message");
}

namespace {

// Writes what the encoder would write, without allocating; a test holds the two to each other.
template <std::size_t kBytes>
class FixedEncoder {
  public:
    explicit FixedEncoder(Type type) {
        put(kMagic, 4).put(kProtocolVersion, 2).put(static_cast<std::uint64_t>(type), 2);
    }
    FixedEncoder& put(std::uint64_t value, int width) {
        for (; width > 0; --width, value >>= 8) bytes_[at_++] = static_cast<std::uint8_t>(value);
        return *this;
    }
    const std::array<std::uint8_t, kBytes>& bytes() const { return bytes_; }

  private:
    std::array<std::uint8_t, kBytes> bytes_;
    std::size_t at_ = 0;
};

}  // namespace

std::array<std::uint8_t, kFetchBytes> encode_fetch(const Fetch& fetch) {
    return FixedEncoder<kFetchBytes>(Type::Fetch).put(fetch.placed, 8).bytes();
}

std::array<std::uint8_t, kFaultBytes> encode_fault(const Fault& fault) {
    return FixedEncoder<kFaultBytes>(Type::Fault)
        .put(fault.ticket, 4)
        .put(fault.address, 8)
        .put(fault.is_poison ? 1 : 0, 1)
        .put(fault.length_log2, 1)
        .bytes();
}

}  // namespace refault::wire
