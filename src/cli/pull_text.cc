// Parsing and formatting of pull's texts.
#include "cli/pull_text.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/units.h"

namespace refault::cli {

using base::Code;
using base::Error;
using base::Result;

Result<std::uint64_t> parse_duration_ms(const std::string& text) {
    std::size_t digits = 0;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
    const auto unit = text.substr(digits);
    const std::uint64_t scale = unit == "ms"                  ? 1
                                : unit.empty() || unit == "s" ? 1000
                                : unit == "m"                 ? 60'000
                                                              : 0;
    std::uint64_t number = 0;
    if (digits <= 9)
        for (std::size_t i = 0; i < digits; ++i)
            number = number * 10 + static_cast<std::uint64_t>(text[i] - '0');
    if (number == 0 || scale == 0)
        return Error(Code::Invalid,
                     "not a duration: '" + text + "' (write for example 30s, 5m or 200ms)");
    return number * scale;
}

Result<std::uint64_t> parse_rate(const std::string& text) {
    std::string_view size = text;
    if (size.ends_with("/s")) size.remove_suffix(2);
    auto bytes = base::parse_size(size);
    if (!bytes || *bytes == 0)
        return Error(Code::Invalid, "not a rate: '" + text + "' (write for example 500M or 2G/s)");
    return bytes;
}

std::string ms_or_dash(const nlohmann::json& value) {
    if (!value.is_number()) return "-";
    char text[32];
    std::snprintf(text, sizeof text, "%.1f ms", value.get<double>());
    return text;
}

unsigned percent_done(std::uint64_t done, std::uint64_t total) noexcept {
    if (done >= total) return 100;
    // Rounded down: 100 is said at the end and not before.
    return static_cast<unsigned>(static_cast<double>(done) / static_cast<double>(total) * 100);
}

std::string progress_line(const std::string& device, const nlohmann::json& status) {
    const auto total = status.value("bytes_total", std::uint64_t{0});
    const auto done = status.value("bytes_done", std::uint64_t{0});
    const double seconds = status.value("moving_seconds", 0.0);
    const double speed =
        seconds > 0 ? static_cast<double>(status.value("bytes_moved", std::uint64_t{0})) / seconds
                    : 0;
    char text[256];
    std::snprintf(text, sizeof text, "%s: %-15s %3u %%  %s of %s  %.2f GB/s", device.c_str(),
                  status.value("phase", "").c_str(), percent_done(done, total),
                  base::format_size(done).c_str(), base::format_size(total).c_str(), speed / 1e9);
    std::string line = text;
    if (speed > 0 && done < total) {
        std::snprintf(text, sizeof text, "  %.0f s left",
                      static_cast<double>(total - done) / speed);
        line += text;
    }
    return line;
}

}  // namespace refault::cli
