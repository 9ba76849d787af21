// Byte sizes as people write and read them: "512M", "0x300000", "1.5 GiB". Stateless.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace refault::base {

// A whole number with an optional suffix K, M, G, T (powers of 1024; a trailing "iB" or "B" is
// accepted), or a hexadecimal one, "0x300000", as offsets are shown.
Result<std::uint64_t> parse_size(std::string_view text);
// "512.0 MiB": one decimal, the largest unit that keeps the number at 1 or more.
std::string format_size(std::uint64_t bytes);
// "512M": as parse_size() reads it back to the byte; "1000" where no unit fits.
std::string exact_size(std::uint64_t bytes);

}  // namespace refault::base
