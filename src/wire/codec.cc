// The frame: u32 magic | u16 version | u16 type | fields.
#include "wire/codec.h"

namespace refault::wire {

using base::Code;
using base::Error;

Encoder begin_message(Type type) {
    Encoder out;
    out.u32(kMagic).u16(kProtocolVersion).u16(static_cast<std::uint16_t>(type));
    return out;
}

Result<Type> take_header(Decoder& in, std::span<const std::uint8_t> bytes) {
    if (bytes.size() > kMessageBytesMax) return Error(Code::Corrupt, "a message is too long");
    const auto magic = in.u32();
    const auto version = in.u16();
    const auto type = in.u16();
    if (!in.ok() || magic != kMagic) return Error(Code::Corrupt, "a message does not begin as one");
    if (version != kProtocolVersion)
        return Error(Code::NotSupported, "the peer speaks version " + std::to_string(version) +
                                             " of the protocol, this side version " +
                                             std::to_string(kProtocolVersion));
    return static_cast<Type>(type);
}

}  // namespace refault::wire
