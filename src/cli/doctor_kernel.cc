// Judging what the kernel offers.
#include <cstdio>

#include "base/range.h"
#include "cli/doctor.h"

namespace refault::cli {

namespace {

// The first with write protection of shared memory by userfaultfd.
constexpr int kMajorMin = 5;
constexpr int kMinorMin = 19;

bool is_new_enough(const std::string& release) {
    int major = 0, minor = 0;
    if (std::sscanf(release.c_str(), "%d.%d", &major, &minor) != 2) return false;
    return major > kMajorMin || (major == kMajorMin && minor >= kMinorMin);
}

Check check_kernel(const DoctorFacts& facts) {
    Check check{"kernel", CheckState::Ok, "Linux " + facts.kernel_release + ", " + facts.machine,
                "", ""};
    if (facts.page_bytes != base::kPageBytes ||
        (facts.machine != "x86_64" && facts.machine != "aarch64")) {
        check.found += ", pages of " + std::to_string(facts.page_bytes) + " bytes";
        return {check.name, CheckState::Missing, check.found,
                "ranges are moved and lost in pages of 4096 bytes, on x86-64 or arm64",
                "use such a machine, with a kernel of 4 KiB pages"};
    }
    if (!is_new_enough(facts.kernel_release))
        return {check.name, CheckState::Missing, check.found,
                "no program can map files: their memory cannot be moved under them",
                "use Linux 5.19 or newer"};
    return check;
}

Check check_userfaultfd(const DoctorFacts& facts) {
    const std::string name = "userfaultfd";
    if (facts.userfaultfd == UserfaultfdRight::None)
        return {name, CheckState::Missing, "not allowed to this user",
                "no program can map files; tools and the mount go on",
                "check CONFIG_USERFAULTFD and, in a container, its seccomp filter; or give access: "
                "chmod 666 /dev/userfaultfd"};
    if (!facts.write_protects_shmem)
        return {name, CheckState::Missing, "no write protection of shared memory",
                "no program can map files: its stores could not be held while memory moves",
                "use Linux 5.19 or newer with CONFIG_HAVE_ARCH_USERFAULTFD_WP"};
    if (!facts.has_minor_faults)
        return {name, CheckState::Limited, "no minor faults on shared memory",
                "a bad page of a mapped file is not repaired in place",
                "use a kernel with CONFIG_HAVE_ARCH_USERFAULTFD_MINOR"};
    if (facts.userfaultfd == UserfaultfdRight::UserMode)
        return {name, CheckState::Limited, "in user mode only",
                "a system call of a program that touches memory just while it moves gets EFAULT",
                "chmod 666 /dev/userfaultfd, or sysctl vm.unprivileged_userfaultfd=1"};
    return {name, CheckState::Ok, "in user and kernel mode, with write protection", "", ""};
}

// What root has says nothing of the programs that ordinary users run on root's daemon.
Check check_userfaultfd_of_others(const DoctorFacts& facts) {
    const std::string name = "userfaultfd of others";
    if (facts.has_unprivileged_userfaultfd)
        return {name, CheckState::Ok, "vm.unprivileged_userfaultfd is 1", "", ""};
    if (facts.is_userfaultfd_node_open)
        return {name, CheckState::Ok, "/dev/userfaultfd is open to them", "", ""};
    return {name, CheckState::Limited,
            facts.has_userfaultfd_node ? "/dev/userfaultfd is closed to them"
                                       : "there is no /dev/userfaultfd",
            "system calls of ordinary users' programs that touch moving memory get EFAULT",
            facts.has_userfaultfd_node
                ? "chmod 666 /dev/userfaultfd, or sysctl vm.unprivileged_userfaultfd=1"
                : "sysctl vm.unprivileged_userfaultfd=1, or use Linux 6.1 or newer"};
}

Check check_pagemap(const DoctorFacts& facts) {
    const std::string name = "page tables";
    if (!facts.has_pagemap)
        return {name, CheckState::Limited, "not shown by this kernel",
                "refault locate --by pages cannot be answered",
                "use a kernel with CONFIG_PROC_PAGE_MONITOR"};
    if (!facts.has_pagemap_scan)
        return {name, CheckState::Limited, "no PAGEMAP_SCAN",
                "refault locate --by pages reads them entry by entry, which is slower",
                "use Linux 6.7 or newer"};
    return {name, CheckState::Ok, "PAGEMAP_SCAN", "", ""};
}

Check check_memory_failure(const DoctorFacts& facts) {
    const std::string name = "bad memory";
    if (!facts.memory_failure_recovery)
        return {name, CheckState::Limited, "the kernel does not handle it",
                "a bad page ends the machine; only `refault fail` tells the pool of one",
                "use a kernel with CONFIG_MEMORY_FAILURE"};
    if (*facts.memory_failure_recovery == 0)
        return {name, CheckState::Limited, "vm.memory_failure_recovery is 0",
                "a bad page ends the machine instead of one range of one file",
                "sysctl vm.memory_failure_recovery=1"};
    return {name, CheckState::Ok, "programs are told by SIGBUS, and repaired where there is a copy",
            "", ""};
}

Check check_leases(const DoctorFacts& facts) {
    const std::string name = "file leases";
    if (facts.has_leases) return {name, CheckState::Ok, "fs.leases-enable is 1", "", ""};
    return {name, CheckState::Limited, "fs.leases-enable is 0",
            "hidden holders of dir: devices cannot be ruled out: their light stays amber",
            "sysctl fs.leases-enable=1"};
}

Check check_pins(const DoctorFacts& facts) {
    const std::string name = "pinned pages";
    if (facts.counts_pinned_pages)
        return {name, CheckState::Ok, "the kernel counts them for this user", "", ""};
    return {name, CheckState::Limited, "their number cannot be had",
            "transfers (direct I/O, io_uring, RDMA) that go on when a pull ends are not noticed",
            facts.is_root ? "use a kernel that has nr_foll_pin_acquired in /proc/vmstat"
                          : "run the daemon as root"};
}

}  // namespace

std::vector<Check> judge_kernel(const DoctorFacts& facts) {
    std::vector<Check> checks{check_kernel(facts), check_userfaultfd(facts)};
    if (facts.is_root) checks.push_back(check_userfaultfd_of_others(facts));
    for (const auto& check : {check_pagemap(facts), check_memory_failure(facts),
                              check_leases(facts), check_pins(facts)})
        checks.push_back(check);
    return checks;
}

}  // namespace refault::cli
