// A random 128-bit identity of a pool or device.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace refault::base {

struct Uuid {
    std::array<std::uint8_t, 16> bytes{};
    auto operator<=>(const Uuid&) const = default;

    static Result<Uuid> random();
    // 8-4-4-4-12 lower-case hex.
    std::string to_string() const;
    static Result<Uuid> parse(std::string_view text);
};

}  // namespace refault::base
