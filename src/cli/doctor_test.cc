// What the doctor says of machines made up, each good but for one thing; and of this one.
#include "cli/doctor.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <span>

namespace refault::cli {
namespace {

Check of(const DoctorFacts& facts, const std::string& name) {
    for (const auto& check : judge(facts))
        if (check.name == name) return check;
    ADD_FAILURE() << "there is no check " << name;
    return {};
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != text.npos;
}

DoctorFacts ordinary_user() {
    DoctorFacts facts;
    facts.is_root = false;
    facts.can_mount = false;
    facts.counts_pinned_pages = false;
    facts.userfaultfd = UserfaultfdRight::UserMode;
    facts.run_dir = "/tmp/refault-1000";
    return facts;
}

// Whatever is not ok says what does not work and how to mend it, on a line each.
void expect_well_formed(const DoctorFacts& facts) {
    std::vector<std::string> names;
    for (const auto& check : judge(facts)) {
        names.push_back(check.name);
        EXPECT_FALSE(check.found.empty()) << check.name;
        EXPECT_EQ(check.effect.empty(), check.state == CheckState::Ok) << check.name;
        EXPECT_EQ(check.remedy.empty(), check.state == CheckState::Ok) << check.name;
        EXPECT_FALSE(has(check.found + check.effect + check.remedy, "\n")) << check.name;
    }
    std::sort(names.begin(), names.end());
    EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST(Doctor, OnAGoodMachineAllIsOk) {
    DoctorFacts facts;
    facts.has_unprivileged_userfaultfd = true;
    for (const auto& check : judge(facts))
        EXPECT_EQ(check.state, CheckState::Ok) << check.name << ": " << check.effect;
    expect_well_formed(facts);
}

TEST(Doctor, AnOrdinaryUserIsLimitedAndLacksNothing) {
    const auto facts = ordinary_user();
    expect_well_formed(facts);
    for (const auto& check : judge(facts))
        EXPECT_NE(check.state, CheckState::Missing) << check.name;
    EXPECT_EQ(of(facts, "userfaultfd").state, CheckState::Limited);
    EXPECT_TRUE(has(of(facts, "userfaultfd").effect, "EFAULT"));
    EXPECT_TRUE(has(of(facts, "ram: devices").found, "/dev/shm"));
    EXPECT_EQ(of(facts, "mount").state, CheckState::Ok);
}

struct Case {
    const char* check;
    void (*change)(DoctorFacts&);
    CheckState state;
    const char* remedy;  // a part of it
};

using F = DoctorFacts;
constexpr auto kLimited = CheckState::Limited;
constexpr auto kMissing = CheckState::Missing;

void expect_each(std::span<const Case> cases, const DoctorFacts& good) {
    for (const auto& one : cases) {
        auto facts = good;
        one.change(facts);
        const auto check = of(facts, one.check);
        EXPECT_EQ(check.state, one.state) << one.check << ": " << check.found;
        EXPECT_TRUE(has(check.remedy, one.remedy)) << one.check << ": " << check.remedy;
        expect_well_formed(facts);
    }
}

TEST(Doctor, WhatTheKernelLacksIsNamedWithItsRemedy) {
    const Case cases[] = {
        {"kernel", [](F& f) { f.kernel_release = "5.15.0-91-generic"; }, kMissing, "5.19"},
        {"kernel", [](F& f) { f.kernel_release = "4.18"; }, kMissing, "5.19"},
        {"kernel", [](F& f) { f.kernel_release = "?"; }, kMissing, "5.19"},
        {"kernel", [](F& f) { f.machine = "riscv64"; }, kMissing, "such a machine"},
        {"kernel", [](F& f) { f.page_bytes = 65536; }, kMissing, "4 KiB"},
        {"userfaultfd", [](F& f) { f.userfaultfd = UserfaultfdRight::None; }, kMissing, "seccomp"},
        {"userfaultfd", [](F& f) { f.write_protects_shmem = false; }, kMissing, "5.19"},
        {"userfaultfd", [](F& f) { f.has_minor_faults = false; }, kLimited, "MINOR"},
        {"userfaultfd of others", [](F& f) { f.is_userfaultfd_node_open = false; }, kLimited,
         "chmod 666 /dev/userfaultfd"},
        {"userfaultfd of others",
         [](F& f) { f.is_userfaultfd_node_open = f.has_userfaultfd_node = false; }, kLimited,
         "vm.unprivileged_userfaultfd=1"},
        {"page tables", [](F& f) { f.has_pagemap = false; }, kLimited, "PROC_PAGE_MONITOR"},
        {"page tables", [](F& f) { f.has_pagemap_scan = false; }, kLimited, "6.7"},
        {"bad memory", [](F& f) { f.memory_failure_recovery.reset(); }, kLimited, "MEMORY_FAILURE"},
        {"bad memory", [](F& f) { f.memory_failure_recovery = 0; }, kLimited, "recovery=1"},
        {"file leases", [](F& f) { f.has_leases = false; }, kLimited, "leases-enable=1"},
        {"pinned pages", [](F& f) { f.counts_pinned_pages = false; }, kLimited, "nr_foll_pin"},
    };
    expect_each(cases, {});
}

TEST(Doctor, WhatIsMissingAroundTheKernelIsNamedWithItsRemedy) {
    const Case cases[] = {
        {"mount", [](F& f) { f.has_fuse_device = false; }, kLimited, "modprobe fuse"},
        {"mount", [](F& f) { f.can_open_fuse_device = false; }, kLimited, "container"},
        {"mount", [](F& f) { f.can_mount = false; }, kLimited, "SYS_ADMIN"},
        {"ram: devices", [](F& f) { f.can_mount = f.can_use_dev_shm = false; }, kLimited, "root"},
        {"huge pages", [](F& f) { f.shmem_enabled.clear(); }, kLimited, "HUGEPAGE"},
        {"huge pages", [](F& f) { f.shmem_enabled = "deny"; }, kLimited, "shmem_enabled"},
        {"huge pages", [](F& f) { f.can_mount = false; }, kLimited, "remount,huge=always"},
        {"descriptors", [](F& f) { f.descriptors_max = 64; }, kMissing, "ulimit"},
        {"descriptors", [](F& f) { f.descriptors_max = 1024; }, kLimited, "LimitNOFILE"},
        {"mappings", [](F& f) { f.mappings_max = 1000; }, kLimited, "max_map_count=65530"},
        {"proof", [](F& f) { f.unreadable_processes = 1; }, kLimited, "SYS_PTRACE"},
        {"proof", [](F& f) { f.sees_all_processes = false; }, kLimited, "hidepid=0"},
        {"proof", [](F& f) { f.is_initial_pid_namespace = false; }, kLimited, "pid namespace"},
        {"run directory", [](F& f) { f.run_dir_state = RunDirState::Foreign; }, kMissing,
         "--run-dir"},
        {"run directory", [](F& f) { f.run_dir_state = RunDirState::NoPlace; }, kMissing,
         "--run-dir"},
        {"run directory", [](F& f) { f.run_dir = "/" + std::string(95, 'x'); }, kMissing,
         "--run-dir"},
        {"daemon", [](F& f) { f.daemon_version = "0.0.9"; }, kLimited, "daemon upgrade"},
        {"daemon", [](F& f) { f.daemon_version = ""; }, kLimited, "daemon upgrade"},
        {"daemon", [](F& f) { f.daemon_refusal = "you may not use /x"; }, kLimited, "owner"},
    };
    expect_each(cases, {});
}

TEST(Doctor, WhatAnOrdinaryUserLacksIsNamedWithItsRemedy) {
    const Case cases[] = {
        {"mount", [](F& f) { f.can_open_fuse_device = false; }, kLimited, "chmod 666 /dev/fuse"},
        {"mount", [](F& f) { f.fusermount.clear(); }, kLimited, "install fuse3"},
        {"mount", [](F& f) { f.is_fusermount_setuid = false; }, kLimited, "4755"},
        {"mount for others", [](F& f) { f.has_user_allow_other = false; }, kLimited,
         "/etc/fuse.conf"},
        {"pinned pages", [](F&) {}, kLimited, "as root"},
        {"proof", [](F& f) { f.unreadable_processes = 90; }, kLimited, "as root"},
    };
    expect_each(cases, ordinary_user());
}

TEST(Doctor, WhatIsEnoughIsNotComplainedOf) {
    DoctorFacts facts;
    for (const auto* release : {"5.19.0", "6.1.0-18-amd64", "10.0"}) {
        facts.kernel_release = release;
        EXPECT_EQ(of(facts, "kernel").state, CheckState::Ok) << release;
    }
    facts.machine = "aarch64";
    EXPECT_EQ(of(facts, "kernel").state, CheckState::Ok);
    facts.run_dir_state = RunDirState::CanBeMade;
    EXPECT_EQ(of(facts, "run directory").state, CheckState::Ok);
    facts.daemon_version = facts.own_version;
    EXPECT_EQ(of(facts, "daemon").state, CheckState::Ok);
    EXPECT_EQ(of(facts, "daemon's rights").state, CheckState::Ok);
    facts.filters_system_calls = false;
    EXPECT_EQ(of(facts, "daemon's rights").state, kLimited);
    facts.is_daemon_root = false;
    EXPECT_EQ(of(facts, "daemon's rights").state, CheckState::Ok);
    auto user = ordinary_user();
    user.dev_shm_huge = "always";
    EXPECT_EQ(of(user, "huge pages").state, CheckState::Ok);
}

TEST(Doctor, ThisMachineIsLookedAtWithoutADaemonAndWithoutATrace) {
    const std::string run_dir = "/tmp/refault-doctor-" + std::to_string(::getpid());
    const auto facts = gather_facts(run_dir, run_dir + "/control.sock");
    EXPECT_EQ(facts.is_root, ::geteuid() == 0);
    EXPECT_EQ(facts.run_dir_state, RunDirState::CanBeMade);
    EXPECT_NE(::access(run_dir.c_str(), F_OK), 0);
    EXPECT_FALSE(facts.daemon_version);
    EXPECT_EQ(facts.daemon_refusal, "");
    EXPECT_GT(facts.processes, facts.unreadable_processes);
    EXPECT_GT(facts.mappings_max, 0u);
    expect_well_formed(facts);
}

TEST(Doctor, ARunDirectoryIsJudgedByWhoseItIs) {
    std::string top = "/tmp/refault-doctor-XXXXXX";
    ASSERT_NE(::mkdtemp(top.data()), nullptr);
    EXPECT_EQ(gather_facts(top, top + "/c").run_dir_state, RunDirState::Ours);
    EXPECT_EQ(gather_facts(top + "/x", top + "/c").run_dir_state, RunDirState::CanBeMade);
    EXPECT_EQ(gather_facts(top + "/x/y", top + "/c").run_dir_state, RunDirState::NoPlace);
    ASSERT_EQ(::symlink("/tmp", (top + "/link").c_str()), 0);
    EXPECT_EQ(gather_facts(top + "/link", top + "/c").run_dir_state, RunDirState::Foreign);
    ::unlink((top + "/link").c_str());
    ::rmdir(top.c_str());
}

}  // namespace
}  // namespace refault::cli
