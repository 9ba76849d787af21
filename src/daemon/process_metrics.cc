// What /proc/self and the limits say of the daemon.
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "daemon/pool_metrics.h"
#include "sys/file.h"

namespace refault::daemon {

namespace {

double seconds_of(const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

// Fields of /proc/self/stat behind the command, which may hold anything but a last ")".
constexpr int kThreadsField = 20;
constexpr int kStartField = 22;

struct ProcStat {
    double threads = 0;
    double start_ticks = 0;
};

bool read_stat(ProcStat& stat) {
    std::ifstream file("/proc/self/stat");
    std::string text;
    if (!std::getline(file, text)) return false;
    const auto at = text.rfind(')');
    if (at == text.npos) return false;
    std::istringstream words(text.substr(at + 1));
    std::string word;
    for (int field = 3; words >> word; ++field) {
        if (field == kThreadsField) stat.threads = std::strtod(word.c_str(), nullptr);
        if (field == kStartField) stat.start_ticks = std::strtod(word.c_str(), nullptr);
    }
    return stat.start_ticks > 0;
}

double boot_time_s() {
    std::ifstream file("/proc/stat");
    for (std::string word; file >> word;) {
        double value = 0;
        if (word == "btime" && file >> value) return value;
    }
    return 0;
}

void write_descriptors(MetricsText& out) {
    const auto directory = sys::open_directory("/proc/self/fd");
    if (!directory) return;
    const auto names = sys::list_names(directory->get());
    // The one by which they are listed is none of the daemon's.
    if (names)
        out.gauge("refault_process_open_fds", "Open file descriptors of the daemon.",
                  static_cast<double>(names->size() - 1));
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        out.gauge("refault_process_max_fds", "File descriptors that the daemon may have open.",
                  static_cast<double>(limit.rlim_cur));
}

}  // namespace

void write_process_metrics(MetricsText& out) {
    std::ifstream statm("/proc/self/statm");
    double virtual_pages = 0, resident_pages = 0;
    const auto page_bytes = static_cast<double>(::sysconf(_SC_PAGESIZE));
    if (statm >> virtual_pages >> resident_pages) {
        out.gauge("refault_process_resident_memory_bytes", "Resident memory of the daemon.",
                  resident_pages * page_bytes);
        out.gauge("refault_process_virtual_memory_bytes", "Address space of the daemon in use.",
                  virtual_pages * page_bytes);
    }
    write_descriptors(out);
    rusage usage{};
    if (::getrusage(RUSAGE_SELF, &usage) == 0)
        out.counter("refault_process_cpu_seconds_total",
                    "Processor time of the daemon, in user and kernel mode.",
                    seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime));
    ProcStat stat;
    const double boot_s = boot_time_s();
    if (!read_stat(stat) || boot_s <= 0) return;
    out.gauge("refault_process_threads", "Threads of the daemon.", stat.threads);
    out.gauge("refault_process_start_time_seconds",
              "When the daemon was started, in seconds since the epoch.",
              boot_s + stat.start_ticks / static_cast<double>(::sysconf(_SC_CLK_TCK)));
}

}  // namespace refault::daemon
