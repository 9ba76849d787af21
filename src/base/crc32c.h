// CRC32C (Castagnoli) of media structures and copied data. Stateless, any thread.
#pragma once

#include <cstdint>
#include <span>

namespace refault::base {

// Continues from `seed` (the crc of what came before; 0 for the first piece).
std::uint32_t crc32c(std::span<const std::uint8_t> data, std::uint32_t seed = 0) noexcept;

}  // namespace refault::base
