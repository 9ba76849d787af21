// CRC32C by ISA-L, which picks the fastest instructions of the processor. Its crc32_iscsi takes and
// returns the register without the final inversion, so both ends are inverted here to get the
// standard value.
#include "base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace refault::base {

std::uint32_t crc32c(std::span<const std::uint8_t> data, std::uint32_t seed) noexcept {
    constexpr std::size_t kStepBytes = 1u << 30;  // the library's length is an int
    std::uint32_t state = ~seed;
    while (!data.empty()) {
        const auto step = std::min(data.size(), kStepBytes);
        // The library only reads; its prototype lacks the const.
        state = crc32_iscsi(const_cast<unsigned char*>(data.data()), static_cast<int>(step), state);
        data = data.subspan(step);
    }
    return ~state;
}

}  // namespace refault::base
