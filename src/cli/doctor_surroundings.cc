// Judging what lies around the kernel: mounts, memory, limits, rights, the daemon.
#include "cli/doctor.h"

namespace refault::cli {

namespace {

constexpr std::uint64_t kDescriptorsNeeded = 256;
constexpr std::uint64_t kDescriptorsWanted = 4096;  // some large devices and many programs
constexpr std::uint64_t kMappingsWanted = 65530;    // the kernel's own default
// sun_path holds 108 bytes, one of them the end.
constexpr std::size_t kSocketPathMax = 107;
constexpr const char* kLongestSocket = "/session.sock";

Check check_fuse(const DoctorFacts& facts) {
    const std::string name = "mount";
    const std::string effect = "refault mount fails; programs that link the library go on";
    if (!facts.has_fuse_device)
        return {name, CheckState::Limited, "there is no /dev/fuse", effect,
                "modprobe fuse; in a container, pass the device in"};
    // fusermount3, though it is root's, opens the device as who calls it.
    if (!facts.can_open_fuse_device)
        return {name, CheckState::Limited, "/dev/fuse may not be opened", effect,
                facts.is_root ? "in a container, allow the device" : "chmod 666 /dev/fuse"};
    if (facts.is_root && !facts.can_mount)
        return {name, CheckState::Limited, "no right to mount (CAP_SYS_ADMIN)", effect,
                "in a container, add the capability SYS_ADMIN"};
    if (facts.is_root) return {name, CheckState::Ok, "/dev/fuse", "", ""};
    if (facts.fusermount.empty())
        return {name, CheckState::Limited, "fusermount3 is not installed", effect,
                "install fuse3 (Debian: apt-get install fuse3)"};
    if (!facts.is_fusermount_setuid)
        return {name, CheckState::Limited, facts.fusermount + " is not set-user-id root", effect,
                "chmod 4755 " + facts.fusermount};
    return {name, CheckState::Ok, "/dev/fuse by " + facts.fusermount, "", ""};
}

Check check_allow_other(const DoctorFacts& facts) {
    const std::string name = "mount for others";
    if (facts.has_user_allow_other)
        return {name, CheckState::Ok, "/etc/fuse.conf has user_allow_other", "", ""};
    return {name, CheckState::Limited, "/etc/fuse.conf lacks user_allow_other",
            "only this user can use what he mounts",
            "add a line user_allow_other to /etc/fuse.conf"};
}

Check check_ram(const DoctorFacts& facts) {
    const std::string name = "ram: devices";
    if (facts.can_mount) return {name, CheckState::Ok, "each a private tmpfs", "", ""};
    const std::string mend = "run the daemon as root";
    if (!facts.can_use_dev_shm)
        return {name, CheckState::Limited, "no right to mount, and /dev/shm may not be written to",
                "only dir: devices can be used", mend};
    return {name, CheckState::Limited, "in /dev/shm: no right to mount",
            "they cannot be bound to a NUMA node, and the kernel's count of hidden holders is "
            "not to be had",
            mend};
}

Check check_huge_pages(const DoctorFacts& facts) {
    const std::string name = "huge pages";
    const std::string effect = "memory is mapped in small pages: more page faults and TLB misses";
    const auto& mode = facts.shmem_enabled;
    if (mode.empty())
        return {name, CheckState::Limited, "none of shared memory in this kernel", effect,
                "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE"};
    if (mode == "deny")
        return {
            name, CheckState::Limited, "shmem_enabled is deny", effect,
            "echo never >/sys/kernel/mm/transparent_hugepage/shmem_enabled (then mounts decide)"};
    // What a mount says comes before every value but deny and force.
    if (facts.can_mount || mode == "force")
        return {name, CheckState::Ok, "of ram: devices; for dir:, mount the tmpfs with huge=always",
                "", ""};
    if (!facts.dev_shm_huge.empty() && facts.dev_shm_huge != "never")
        return {name, CheckState::Ok, "/dev/shm has huge=" + facts.dev_shm_huge, "", ""};
    return {name, CheckState::Limited, "/dev/shm has none", effect,
            "mount -o remount,huge=always /dev/shm"};
}

Check check_descriptors(const DoctorFacts& facts) {
    const std::string name = "descriptors";
    const std::string found = "at most " + std::to_string(facts.descriptors_max);
    const std::string remedy = "raise the hard limit (ulimit -Hn, LimitNOFILE=)";
    if (facts.descriptors_max < kDescriptorsNeeded)
        return {name, CheckState::Missing, found,
                "the daemon cannot open the segments of one device", remedy};
    if (facts.descriptors_max < kDescriptorsWanted)
        return {name, CheckState::Limited, found,
                "large pools and many programs fail: each segment in use and each program takes "
                "some",
                remedy};
    return {name, CheckState::Ok, found, "", ""};
}

Check check_mappings(const DoctorFacts& facts) {
    const std::string name = "mappings";
    const std::string found = "vm.max_map_count is " + std::to_string(facts.mappings_max);
    if (facts.mappings_max >= kMappingsWanted) return {name, CheckState::Ok, found, "", ""};
    return {name, CheckState::Limited, found,
            "a program cannot map large files: each part that lies elsewhere is a mapping",
            "sysctl vm.max_map_count=" + std::to_string(kMappingsWanted)};
}

Check check_proof(const DoctorFacts& facts) {
    const std::string name = "proof";
    const auto limited = [&](const std::string& found, const std::string& effect,
                             const std::string& remedy) {
        return Check{name, CheckState::Limited, found, effect, remedy};
    };
    if (!facts.sees_all_processes)
        return limited("/proc hides processes (hidepid)",
                       "programs of other users that hold a device are not found",
                       "mount -o remount,hidepid=0 /proc, or run the daemon as root");
    if (!facts.is_initial_pid_namespace)
        return limited("processes outside of this container are not seen",
                       "those that hold a dir: device are not named",
                       "run the daemon in the host's pid namespace");
    const std::string found = "tables of " +
                              std::to_string(facts.processes - facts.unreadable_processes) +
                              " of " + std::to_string(facts.processes) + " processes can be read";
    if (facts.unreadable_processes == 0) return {name, CheckState::Ok, found, "", ""};
    if (facts.is_root)
        return limited(found,
                       "the light of a device that this daemon did not make stays amber: only of "
                       "its own does the kernel count all holders",
                       "give the daemon CAP_SYS_PTRACE and the host's processes");
    return limited(found, "a pull moves all data, but is not proven: the light stays amber",
                   "run the daemon as root");
}

Check check_run_dir(const DoctorFacts& facts) {
    const std::string name = "run directory";
    const auto missing = [&](const std::string& what) {
        return Check{name, CheckState::Missing, facts.run_dir + " " + what,
                     "the daemon does not start", "choose another: --run-dir, or REFAULT_RUN_DIR"};
    };
    if ((facts.run_dir + kLongestSocket).size() > kSocketPathMax)
        return missing("is too long for a socket's path");
    switch (facts.run_dir_state) {
        case RunDirState::NoPlace:
            return missing("cannot be made there");
        case RunDirState::Foreign:
            return missing("is not a directory of this user");
        case RunDirState::Ours:
            return {name, CheckState::Ok, facts.run_dir, "", ""};
        case RunDirState::CanBeMade:
            break;
    }
    return {name, CheckState::Ok, facts.run_dir + " can be made", "", ""};
}

Check check_daemon(const DoctorFacts& facts) {
    const std::string name = "daemon";
    if (!facts.daemon_refusal.empty())
        return {name, CheckState::Limited, facts.daemon_refusal, "commands cannot reach it",
                "ask as its owner, or restart it"};
    if (!facts.daemon_version)
        return {name, CheckState::Ok, "none runs here; start one with: refaultd", "", ""};
    if (*facts.daemon_version == facts.own_version)
        return {name, CheckState::Ok, "runs, version " + *facts.daemon_version, "", ""};
    return {name, CheckState::Limited,
            "is version " +
                (facts.daemon_version->empty() ? std::string("unknown") : *facts.daemon_version) +
                ", this command " + facts.own_version,
            "one may ask for what the other does not know",
            "refault daemon upgrade, which keeps programs, mounts and ram: devices; where that is "
            "refused, restart it: ram: devices end"};
}

// An ordinary user's daemon has no capabilities, and mounts only without a filter.
Check check_daemon_rights(const DoctorFacts& facts) {
    const std::string name = "daemon's rights";
    const std::string found = std::to_string(facts.daemon_capabilities.size()) +
                              " capabilities, system calls are " +
                              (facts.filters_system_calls ? "filtered" : "not filtered");
    if (!facts.is_daemon_root || facts.filters_system_calls)
        return {name, CheckState::Ok, found, "", ""};
    return {name, CheckState::Limited, found, "a fault in the daemon could be used for more",
            "start it without --seccomp=off, on a kernel with CONFIG_SECCOMP_FILTER"};
}

}  // namespace

std::vector<Check> judge_surroundings(const DoctorFacts& facts) {
    std::vector<Check> checks{check_fuse(facts)};
    // Root may let others use a mount without being told so.
    if (!facts.is_root) checks.push_back(check_allow_other(facts));
    for (const auto& check :
         {check_ram(facts), check_huge_pages(facts), check_descriptors(facts),
          check_mappings(facts), check_proof(facts), check_run_dir(facts), check_daemon(facts)})
        checks.push_back(check);
    if (facts.daemon_version) checks.push_back(check_daemon_rights(facts));
    return checks;
}

}  // namespace refault::cli
