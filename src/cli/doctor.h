// `refault doctor`: what this machine can do for a daemon and programs of the calling user. One
// function gathers facts and changes nothing; another judges them, also those of machines that a
// test has made up. Stateless.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/version.h"

namespace refault::cli {

enum class UserfaultfdRight {
    None,
    UserMode,  // waits of loads and stores only; a system call gets EFAULT
    Full,
};

enum class RunDirState {
    Ours,
    CanBeMade,
    NoPlace,  // its parent is missing or may not be written to
    Foreign,  // another user's, or no directory
};

// The values of a machine on which all is well, so that a test says only what differs.
struct DoctorFacts {
    bool is_root = true;
    std::string machine = "x86_64";
    std::string kernel_release = "6.12.0";
    std::uint64_t page_bytes = 4096;
    // Of this process.
    UserfaultfdRight userfaultfd = UserfaultfdRight::Full;
    bool write_protects_shmem = true;  // and tells of missing pages there
    bool has_minor_faults = true;
    // Of ordinary users' processes.
    bool has_userfaultfd_node = true;
    bool is_userfaultfd_node_open = true;       // to everybody, or to this user
    bool has_unprivileged_userfaultfd = false;  // vm.unprivileged_userfaultfd=1
    bool has_pagemap = true;
    bool has_pagemap_scan = true;
    std::optional<int> memory_failure_recovery = 1;  // nothing: not in this kernel
    bool has_leases = true;
    bool counts_pinned_pages = true;

    bool has_fuse_device = true;
    bool can_open_fuse_device = true;
    std::string fusermount = "/usr/bin/fusermount3";  // empty: not installed
    bool is_fusermount_setuid = true;
    bool has_user_allow_other = true;

    bool can_mount = true;  // CAP_SYS_ADMIN
    bool can_use_dev_shm = true;
    std::string shmem_enabled = "never";  // empty: a kernel without huge pages of shared memory
    std::string dev_shm_huge;             // huge= of /dev/shm; empty: none

    std::uint64_t descriptors_max = 1 << 20;  // the hard limit
    std::uint64_t mappings_max = 65530;       // vm.max_map_count

    std::uint64_t processes = 100;
    std::uint64_t unreadable_processes = 0;
    bool sees_all_processes = true;  // /proc hides none
    bool is_initial_pid_namespace = true;

    std::string run_dir = "/run/refault";
    RunDirState run_dir_state = RunDirState::Ours;

    std::string own_version = base::kVersion;
    std::optional<std::string> daemon_version;  // nothing: none answers
    std::string daemon_refusal;                 // one is there and does not answer as it should
    bool is_daemon_root = true;
    bool filters_system_calls = true;  // the daemon's
    std::vector<std::string> daemon_capabilities;
};

// Looks at this machine. The daemon is asked at its control socket, if there is one.
DoctorFacts gather_facts(const std::string& run_dir, const std::string& control_socket);

enum class CheckState { Ok, Limited, Missing };

struct Check {
    std::string name;
    CheckState state = CheckState::Ok;
    std::string found;   // what is there
    std::string effect;  // what does not work because of it; empty when all does
    std::string remedy;  // how to mend it
};

const char* state_name(CheckState state) noexcept;  // "ok", "limited", "missing"
std::vector<Check> judge(const DoctorFacts& facts);
// The two halves of judge().
std::vector<Check> judge_kernel(const DoctorFacts& facts);
std::vector<Check> judge_surroundings(const DoctorFacts& facts);

}  // namespace refault::cli
