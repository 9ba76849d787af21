// Reads an input as a script: numbers, names and byte strings for a target that does what the bytes
// say. Behind the end everything is zero and empty. Not thread-safe.
#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "fuzz/target.h"

namespace refault::fuzz {

class Script {
  public:
    explicit Script(Input input) : rest_(input) {}

    bool is_over() const noexcept { return rest_.empty(); }
    std::uint8_t u8() { return static_cast<std::uint8_t>(number(1)); }
    std::uint16_t u16() { return static_cast<std::uint16_t>(number(2)); }
    std::uint32_t u32() { return static_cast<std::uint32_t>(number(4)); }
    std::uint64_t u64() { return number(8); }
    bool flag() { return u8() % 2 == 1; }
    std::uint64_t below(std::uint64_t limit) { return u8() % limit; }
    // Often small, sometimes at the edge of what a field can hold.
    std::uint64_t size() {
        const auto how = u8();
        if (how < 128) return std::uint64_t{how} * 1024 + how % 3;
        return how < 192 ? u16() : u64();
    }
    // A length byte and so many bytes.
    Input bytes() {
        const std::size_t wanted = u8();
        const auto taken = rest_.first(std::min(wanted, rest_.size()));
        rest_ = rest_.subspan(taken.size());
        return taken;
    }
    Input rest() { return std::exchange(rest_, {}); }
    std::string text() {
        const auto taken = bytes();
        return {taken.begin(), taken.end()};
    }

  private:
    std::uint64_t number(std::size_t width) {
        std::uint64_t value = 0;
        const auto taken = rest_.first(std::min(width, rest_.size()));
        for (std::size_t i = 0; i < taken.size(); ++i) value |= std::uint64_t{taken[i]} << (8 * i);
        rest_ = rest_.subspan(taken.size());
        return value;
    }

    Input rest_;
};

}  // namespace refault::fuzz
