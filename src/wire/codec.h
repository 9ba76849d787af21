// Frame and shared fields of wire messages. Used by the message files of this folder alone.
#pragma once

#include "wire/message.h"

namespace refault::wire {

using base::Decoder;
using base::Encoder;

inline constexpr std::uint32_t kMagic = 0x74666552;  // "Reft"

// Types on the wire; never renumbered.
enum class Type : std::uint16_t {
    Hello = 1,
    Reply = 2,
    CreateFile = 16,
    OpenFile = 17,
    CloseFile = 18,
    Resize = 19,
    StatHandle = 20,
    StatPath = 21,
    Map = 22,
    Unmap = 23,
    List = 24,
    Unlink = 25,
    MakeDirectory = 26,
    RemoveDirectory = 27,
    Rename = 28,
    Accept = 29,
    SetNotice = 30,
    Punch = 31,
    Reopen = 32,
    Remap = 33,
    Doorbell = 64,
    Fetch = 65,
    Places = 66,
    Fault = 67,
    Verdict = 68,
    Notice = 69,
};

// An encoder with the header in it.
Encoder begin_message(Type type);

// Checks magic and version and takes the type off; Corrupt or NotSupported.
Result<Type> take_header(Decoder& in, std::span<const std::uint8_t> bytes);

inline Access decode_access(Decoder& in) {
    const auto value = in.u8();
    if (value > 1) in.fail();
    return value == 1 ? Access::ReadWrite : Access::Read;
}
inline void encode_access(Encoder& out, Access access) {
    out.u8(access == Access::ReadWrite ? 1 : 0);
}

inline bool decode_bool(Decoder& in) {
    const auto value = in.u8();
    if (value > 1) in.fail();
    return value == 1;
}
inline void encode_bool(Encoder& out, bool value) {
    out.u8(value ? 1 : 0);
}

}  // namespace refault::wire
