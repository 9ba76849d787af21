// One write(2) a line, so that lines of several threads do not mix. The level prefix is the one
// that journald reads.
#include "base/log.h"

#include <unistd.h>

#include <string>

namespace refault::base {

void log_line(LogLevel level, std::string_view text) noexcept {
    std::string line(level == LogLevel::Error ? "<3>" : level == LogLevel::Warning ? "<4>" : "<6>");
    line.append("refaultd: ").append(text).push_back('\n');
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace refault::base
