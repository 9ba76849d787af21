// Sizes with binary suffixes.
#include "base/units.h"

#include <array>
#include <charconv>
#include <cstdio>

namespace refault::base {

Result<std::uint64_t> parse_size(std::string_view text) {
    const Error bad(Code::Invalid, "not a size: '" + std::string(text) +
                                       "' (write for example 4096, 0x1000, 512M or 2G)");
    const bool is_hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    const auto digits = is_hexadecimal ? text.substr(2) : text;
    std::uint64_t number = 0;
    const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(),
                                                number, is_hexadecimal ? 16 : 10);
    if (failure != std::errc{}) return bad;
    std::string_view suffix(end, static_cast<std::size_t>(digits.data() + digits.size() - end));
    // A "B" behind one would be a digit: it takes no suffix at all.
    if (is_hexadecimal && !suffix.empty()) return bad;
    if (suffix.ends_with("iB"))
        suffix.remove_suffix(2);
    else if (suffix.ends_with("B"))
        suffix.remove_suffix(1);
    int shift = 0;
    if (!suffix.empty()) {
        const auto unit = std::string_view("KMGT").find(
            suffix[0] >= 'a' ? static_cast<char>(suffix[0] - 32) : suffix[0]);
        if (unit == std::string_view::npos || suffix.size() != 1) return bad;
        shift = 10 * static_cast<int>(unit + 1);
    }
    if (number > UINT64_MAX >> shift) return bad;
    return number << shift;
}

std::string format_size(std::uint64_t bytes) {
    constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
    char text[32];
    std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
    return text;
}

std::string exact_size(std::uint64_t bytes) {
    constexpr std::string_view kSuffixes = "KMGT";
    std::size_t unit = 0;
    for (; bytes != 0 && bytes % 1024 == 0 && unit < kSuffixes.size(); ++unit) bytes /= 1024;
    auto text = std::to_string(bytes);
    if (unit > 0) text += kSuffixes[unit - 1];
    return text;
}

}  // namespace refault::base
