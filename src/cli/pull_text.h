// What a pull or a failure is asked for and told in text: durations, rates, the line of progress.
// Stateless.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.h"

namespace refault::cli {

// "30s", "5m", "200ms", or plain seconds; positive.
base::Result<std::uint64_t> parse_duration_ms(const std::string& text);
// "500M", "500M/s": bytes a second; positive.
base::Result<std::uint64_t> parse_rate(const std::string& text);

// "12.3 ms"; "-" for null, a time that has not come.
std::string ms_or_dash(const nlohmann::json& value);

// 0 to 100. Nothing to do is all of it.
unsigned percent_done(std::uint64_t done, std::uint64_t total) noexcept;
// "b: moving-data  42 %  420.0 MiB of 1000.0 MiB  3.21 GB/s  2 s left" from a removal's status.
std::string progress_line(const std::string& device, const nlohmann::json& status);

}  // namespace refault::cli
