// One write(2) a line, so that lines of several threads do not mix. For journald each
// begins with the level prefix that it reads.
#include "base/log.h"

#include <unistd.h>

#include <cstdlib>
#include <string>

namespace refault::base {

void log_line(LogLevel level, std::string_view text) noexcept {
    std::string line;
    // Set by systemd where the output goes to the journal.
    if (::getenv("JOURNAL_STREAM") != nullptr)
        line = level == LogLevel::Error ? "<3>" : level == LogLevel::Warning ? "<4>" : "<6>";
    line.append("refaultd: ").append(text).push_back('\n');
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace refault::base
