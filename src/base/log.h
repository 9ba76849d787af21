// Lines for the daemon's log (stderr). Any thread; a line is written with one system call.
#pragma once

#include <string_view>

namespace refault::base {

enum class LogLevel { Info, Warning, Error };

void log_line(LogLevel level, std::string_view text) noexcept;

// Takes every line instead of stderr; false when it could not, and stderr has it. One for the
// process, as stderr is: set by a main before there are other threads.
using LogWriter = bool (*)(LogLevel level, std::string_view text) noexcept;
void set_log_writer(LogWriter writer) noexcept;

}  // namespace refault::base
