// What /proc tells of processes. Every function copes with a process that ends while it is read.
// Stateless.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/range.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace refault::sys {

using base::AddressRange;
using base::Result;
using base::UniqueFd;

// The short name of a process (comm), "?" when it cannot be had.
std::string command_of(pid_t pid, const std::string& proc_root = "/proc");
// Every process, ascending.
Result<std::vector<pid_t>> list_processes(const std::string& proc_root = "/proc");

// One line of /proc/PID/maps.
struct MapsEntry {
    AddressRange addresses;
    bool is_shared = false;  // writes go to the file; else to pages of the process's own
    std::uint64_t file_offset = 0;
    std::uint64_t device = 0;  // st_dev form
    std::uint64_t inode = 0;
    std::string path;  // with " (deleted)" when the name is gone
    bool operator==(const MapsEntry&) const = default;
};
// Nothing for a line that does not parse.
bool parse_maps_line(std::string_view line, MapsEntry& entry);

// Gone when the process has ended, Denied when its tables may not be read.
Result<std::vector<MapsEntry>> read_maps(pid_t pid, const std::string& proc_root = "/proc");

// The mappings of a process also when its first thread has ended, which shows none any more while
// the others go on in them.
struct ProcessMaps {
    pid_t reader = 0;  // the process or thread whose /proc directory shows them
    std::vector<MapsEntry> entries;
};
Result<ProcessMaps> read_process_maps(pid_t pid, const std::string& proc_root = "/proc");

// (st_dev, st_ino) of the file mapped at exactly these addresses, by /proc/PID/map_files: maps
// alone shows another device number than stat on btrfs and overlays. Denied without the right to
// look.
Result<std::pair<std::uint64_t, std::uint64_t>> mapped_file(pid_t pid, AddressRange addresses,
                                                            const std::string& proc_root = "/proc");

struct OpenDescriptor {
    int number = -1;
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::string path;
};

// Processes outside of another pid namespace than the first have no number here, and show in no
// /proc. Those of other users do not either where it is mounted with hidepid=2.
bool is_in_initial_pid_namespace();
bool shows_processes_of_all_users();

// The threads of a process, ascending; without the process itself where that has no others. The
// functions above and below take a thread's number, too: /proc/TID is there, if not listed.
std::vector<pid_t> list_threads(pid_t pid, const std::string& proc_root = "/proc");
// True when the kernel says (kcmp) that two threads use one table of descriptors.
bool shares_descriptors(pid_t one, pid_t other);

Result<std::vector<OpenDescriptor>> read_descriptors(pid_t pid,
                                                     const std::string& proc_root = "/proc");

// A descriptor that becomes readable when the process ends.
Result<UniqueFd> open_pidfd(pid_t pid);

}  // namespace refault::sys
