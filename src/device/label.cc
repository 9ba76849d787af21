// The label on media. Layout (little-endian, docs/format.md):
//
//   magic "RFLABEL1" | u32 version | u32 length of the body | body | u32 crc32c of all before it
#include "device/label.h"

#include <cstring>

#include "base/crc32c.h"
#include "device/spec.h"

namespace refault::device {

using base::Code;
using base::Decoder;
using base::Encoder;
using base::Error;

namespace {

constexpr std::uint8_t kMagic[8] = {'R', 'F', 'L', 'A', 'B', 'E', 'L', '1'};
constexpr std::size_t kHeadBytes = sizeof kMagic + 4 + 4;
constexpr std::uint32_t kNameBytesMax = 63;

Error corrupt(const char* rule) {
    return Error(Code::Corrupt, std::string("the label is damaged: ") + rule);
}

void encode_uuid(Encoder& out, const base::Uuid& uuid) {
    out.raw(uuid.bytes);
}

base::Uuid decode_uuid(Decoder& in) {
    base::Uuid uuid;
    const auto raw = in.raw(uuid.bytes.size());
    if (raw.size() == uuid.bytes.size()) std::memcpy(uuid.bytes.data(), raw.data(), raw.size());
    return uuid;
}

base::Result<Label> decode_body(std::span<const std::uint8_t> body) {
    Decoder in(body);
    Label label;
    label.device = decode_uuid(in);
    label.pool = decode_uuid(in);
    label.name = in.text(kNameBytesMax);
    label.id = base::DeviceId(in.u32());
    label.segment_bytes = in.u64();
    label.segment_count = in.u32();
    label.generation = in.u64();
    const auto state = in.u8();
    label.metadata_epoch = in.u64();
    const auto count = in.u32();
    if (count > in.remaining() / 4) in.fail();
    for (std::uint32_t i = 0; in.ok() && i < count; ++i)
        label.metadata_segments.emplace_back(in.u32());
    RETURN_IF_ERROR(in.finish("the label"));
    if (state != 1 && state != 2) return corrupt("unknown state");
    label.state = static_cast<LabelState>(state);
    if (!is_device_name(label.name)) return corrupt("name");
    // The largest size times the largest count is below 2^62: device addresses and file offsets
    // never overflow.
    if (!is_segment_size(label.segment_bytes)) return corrupt("segment size");
    if (label.segment_count == 0) return corrupt("no segments");
    for (const auto segment : label.metadata_segments)
        if (segment.raw() >= label.segment_count)
            return corrupt("a metadata segment lies beyond the device");
    return label;
}

}  // namespace

base::Bytes encode_label(const Label& label) {
    Encoder body;
    encode_uuid(body, label.device);
    encode_uuid(body, label.pool);
    body.text(label.name)
        .u32(label.id.raw())
        .u64(label.segment_bytes)
        .u32(label.segment_count)
        .u64(label.generation);
    body.u8(static_cast<std::uint8_t>(label.state)).u64(label.metadata_epoch);
    body.u32(static_cast<std::uint32_t>(label.metadata_segments.size()));
    for (const auto segment : label.metadata_segments) body.u32(segment.raw());
    Encoder out;
    out.raw(kMagic).u32(kLabelVersion).bytes(body.data());
    out.u32(base::crc32c(out.data()));
    return out.take();
}

base::Result<Label> decode_label(std::span<const std::uint8_t> bytes) {
    if (bytes.size() < kHeadBytes + 4) return corrupt("too short");
    if (std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0)
        return corrupt("not a label (magic)");
    Decoder head(bytes.subspan(sizeof kMagic));
    const auto version = head.u32();
    if (version > kLabelVersion)
        return Error(Code::NotSupported, "the label is of version " + std::to_string(version) +
                                             ", made by a newer refault; use that one");
    if (version != kLabelVersion) return corrupt("version");
    const auto length = head.u32();
    if (length != bytes.size() - kHeadBytes - 4) return corrupt("length");
    Decoder tail(bytes.last(4));
    if (tail.u32() != base::crc32c(bytes.first(bytes.size() - 4))) return corrupt("checksum");
    return decode_body(bytes.subspan(kHeadBytes, length));
}

}  // namespace refault::device
