// Random identities from the kernel's generator.
#include "base/uuid.h"

#include <sys/random.h>

namespace refault::base {

namespace {
constexpr std::string_view kHex = "0123456789abcdef";
bool dash_before(std::size_t byte) {
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}
}  // namespace

Result<Uuid> Uuid::random() {
    Uuid uuid;
    if (getrandom(uuid.bytes.data(), uuid.bytes.size(), 0) !=
        static_cast<ssize_t>(uuid.bytes.size()))
        return sys_error("getrandom");
    uuid.bytes[6] =
        static_cast<std::uint8_t>((uuid.bytes[6] & 0x0f) | 0x40);  // RFC 4122: version 4
    uuid.bytes[8] = static_cast<std::uint8_t>((uuid.bytes[8] & 0x3f) | 0x80);  // RFC 4122: variant
    return uuid;
}

std::string Uuid::to_string() const {
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        if (dash_before(i)) text += '-';
        text += kHex[bytes[i] >> 4];
        text += kHex[bytes[i] & 15];
    }
    return text;
}

Result<Uuid> Uuid::parse(std::string_view text) {
    const Error bad(Code::Invalid, "not a uuid: '" + std::string(text) + "'");
    Uuid uuid;
    for (std::size_t i = 0; i < uuid.bytes.size(); ++i) {
        if (dash_before(i)) {
            if (!text.starts_with('-')) return bad;
            text.remove_prefix(1);
        }
        if (text.size() < 2) return bad;
        const auto high = kHex.find(text[0]);
        const auto low = kHex.find(text[1]);
        if (high == kHex.npos || low == kHex.npos) return bad;
        uuid.bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
        text.remove_prefix(2);
    }
    if (!text.empty()) return bad;
    return uuid;
}

}  // namespace refault::base
