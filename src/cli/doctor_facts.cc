// Looking at the machine. Everything is read or opened and closed again; nothing is written.
#include "cli/doctor_facts.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "base/unique_fd.h"
#include "base/version.h"
#include "cli/control_client.h"
#include "cli/local_daemon.h"
#include "sys/pagemap.h"
#include "sys/process.h"
#include "sys/userfaultfd.h"

namespace refault::cli {

using base::UniqueFd;

namespace {

// A number of /proc/sys; nothing when this kernel has no such setting.
std::optional<std::uint64_t> setting(const std::string& path) {
    std::ifstream file(path);
    std::uint64_t value = 0;
    if (!(file >> value)) return std::nullopt;
    return value;
}

// Whether a line begins with this word; in a file of settings a comment does not.
bool has_line(const std::string& path, const std::string& wanted) {
    std::ifstream file(path);
    for (std::string line, word; std::getline(file, line);)
        if (std::istringstream(line) >> word && word == wanted) return true;
    return false;
}

// The choice in brackets, as in "always [never]".
std::string chosen_of(const std::string& path) {
    std::ifstream file(path);
    for (std::string word; file >> word;)
        if (word.size() > 2 && word.front() == '[' && word.back() == ']')
            return word.substr(1, word.size() - 2);
    return {};
}

bool has_capability(unsigned number) {
    std::ifstream file("/proc/self/status");
    for (std::string key, value; file >> key;)
        if (key == "CapEff:" && file >> value)
            return ((std::strtoull(value.c_str(), nullptr, 16) >> number) & 1) != 0;
    return false;
}

// huge= of what is mounted at the directory; empty when it has none.
std::string huge_option_of(const std::string& directory) {
    std::ifstream table("/proc/self/mountinfo");
    std::string found;
    for (std::string line; std::getline(table, line);) {
        std::istringstream words(line);
        std::string word, at;
        for (int i = 0; i < 5; ++i) words >> at;
        if (at != directory) continue;
        found.clear();
        const auto option = line.find("huge=");
        if (option != line.npos)
            found = line.substr(option + 5, line.find_first_of(", ", option) - option - 5);
    }
    return found;
}

constexpr unsigned kCapSysAdmin = 21;

}  // namespace

void gather_kernel_facts(DoctorFacts& facts) {
    utsname name{};
    if (::uname(&name) == 0) {
        facts.machine = name.machine;
        facts.kernel_release = name.release;
    }
    facts.page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    facts.userfaultfd = UserfaultfdRight::None;
    if (const auto made = sys::create_userfaultfd()) {
        facts.userfaultfd =
            made->handles_kernel_faults ? UserfaultfdRight::Full : UserfaultfdRight::UserMode;
        const auto features = sys::userfaultfd_features(made->fd.get());
        facts.write_protects_shmem =
            features && features->write_protects_shmem && features->has_missing_shmem;
        facts.has_minor_faults = features && features->has_minor_shmem;
    }
    struct stat node {};
    facts.has_userfaultfd_node = ::stat("/dev/userfaultfd", &node) == 0;
    constexpr mode_t kOthers = S_IROTH | S_IWOTH;
    facts.is_userfaultfd_node_open =
        facts.has_userfaultfd_node && (node.st_mode & kOthers) == kOthers;
    facts.has_unprivileged_userfaultfd = setting("/proc/sys/vm/unprivileged_userfaultfd") == 1u;
    facts.has_pagemap = ::access("/proc/self/pagemap", R_OK) == 0;
    facts.has_pagemap_scan = sys::has_pagemap_scan();
    facts.memory_failure_recovery.reset();
    if (const auto mode = setting("/proc/sys/vm/memory_failure_recovery"))
        facts.memory_failure_recovery = static_cast<int>(*mode);
    facts.has_leases = setting("/proc/sys/fs/leases-enable") == 1u;
    facts.counts_pinned_pages = ::access("/proc/sys/vm/stat_refresh", W_OK) == 0 &&
                                has_line("/proc/vmstat", "nr_foll_pin_acquired");
}

void gather_mount_facts(DoctorFacts& facts) {
    facts.has_fuse_device = ::access("/dev/fuse", F_OK) == 0;
    facts.can_open_fuse_device = UniqueFd(::open("/dev/fuse", O_RDWR | O_CLOEXEC)).valid();
    facts.fusermount = find_program("fusermount3");
    struct stat helper {};
    facts.is_fusermount_setuid = !facts.fusermount.empty() &&
                                 ::stat(facts.fusermount.c_str(), &helper) == 0 &&
                                 helper.st_uid == 0 && (helper.st_mode & S_ISUID) != 0;
    facts.has_user_allow_other = has_line("/etc/fuse.conf", "user_allow_other");
    facts.can_mount = has_capability(kCapSysAdmin);
    facts.can_use_dev_shm = ::access("/dev/shm", W_OK | X_OK) == 0;
    facts.shmem_enabled = chosen_of("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    facts.dev_shm_huge = huge_option_of("/dev/shm");
}

void gather_process_facts(DoctorFacts& facts) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) facts.descriptors_max = limit.rlim_max;
    if (const auto most = setting("/proc/sys/vm/max_map_count")) facts.mappings_max = *most;
    facts.processes = 0;
    facts.unreadable_processes = 0;
    if (const auto processes = sys::list_processes())
        for (const auto pid : *processes) {
            const auto maps = sys::read_process_maps(pid);
            if (!maps && maps.error().code() == base::Code::Gone) continue;
            ++facts.processes;
            if (!maps) ++facts.unreadable_processes;
        }
    facts.sees_all_processes = sys::shows_processes_of_all_users();
    facts.is_initial_pid_namespace = sys::is_in_initial_pid_namespace();
}

void gather_run_dir_facts(DoctorFacts& facts) {
    struct stat status {};
    if (::lstat(facts.run_dir.c_str(), &status) == 0) {
        const bool is_ours = S_ISDIR(status.st_mode) && status.st_uid == ::geteuid();
        facts.run_dir_state = is_ours ? RunDirState::Ours : RunDirState::Foreign;
        return;
    }
    const auto slash = facts.run_dir.rfind('/');
    const std::string parent = slash == std::string::npos ? "."
                               : slash == 0               ? "/"
                                                          : facts.run_dir.substr(0, slash);
    const bool can_make = ::faccessat(AT_FDCWD, parent.c_str(), W_OK | X_OK, AT_EACCESS) == 0;
    facts.run_dir_state = can_make ? RunDirState::CanBeMade : RunDirState::NoPlace;
}

void gather_daemon_facts(DoctorFacts& facts, const std::string& control_socket) {
    facts.own_version = base::kVersion;
    const auto status = ControlClient(control_socket).get("/v1/status");
    if (status) {
        facts.daemon_version = status->value("version", "");
        const auto rights = status->value("rights", Json::object());
        facts.is_daemon_root = rights.value("user", 1) == 0;
        facts.filters_system_calls = rights.value("filters_system_calls", false);
        facts.daemon_capabilities = rights.value("capabilities", std::vector<std::string>());
    } else if (status.error().code() != base::Code::NotFound)
        facts.daemon_refusal = status.error().message();
}

DoctorFacts gather_facts(const std::string& run_dir, const std::string& control_socket) {
    DoctorFacts facts;
    facts.is_root = ::geteuid() == 0;
    facts.run_dir = run_dir;
    gather_kernel_facts(facts);
    gather_mount_facts(facts);
    gather_process_facts(facts);
    gather_run_dir_facts(facts);
    gather_daemon_facts(facts, control_socket);
    return facts;
}

}  // namespace refault::cli
