// One write(2) a line, so that lines of several threads do not mix. For journald each
// begins with the level prefix that it reads.
#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>

namespace refault::base {

namespace {
std::atomic<LogWriter> log_writer{nullptr};
}  // namespace

void set_log_writer(LogWriter writer) noexcept {
    log_writer.store(writer);
}

void log_line(LogLevel level, std::string_view text) noexcept {
    if (const auto writer = log_writer.load(); writer != nullptr && writer(level, text)) return;
    std::string line;
    // Set by systemd where the output goes to the journal.
    if (::getenv("JOURNAL_STREAM") != nullptr)
        line = level == LogLevel::Error ? "<3>" : level == LogLevel::Warning ? "<4>" : "<6>";
    line.append("refaultd: ").append(text).push_back('\n');
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace refault::base
