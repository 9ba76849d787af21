// Lines for the daemon's log (stderr). Any thread; a line is written with one system call.
#pragma once

#include <string_view>

namespace refault::base {

enum class LogLevel { Info, Warning, Error };

void log_line(LogLevel level, std::string_view text) noexcept;

}  // namespace refault::base
