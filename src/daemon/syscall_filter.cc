// By libseccomp. A name that a machine does not have is passed over: the list is for all of them.
#include "daemon/syscall_filter.h"

#include <sched.h>
#include <seccomp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string_view>

namespace refault::daemon {

using base::Code;
using base::Error;
using base::Status;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// The leak checker traces its own process, and reports are made readable by another program.
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

constexpr auto kAllowed = std::to_array<std::string_view>({
    // memory
    "brk",
    "madvise",
    "membarrier",
    "memfd_create",
    "mincore",
    "mmap",
    "mprotect",
    "mremap",
    "msync",
    "munmap",
    "get_mempolicy",
    "mbind",
    "set_mempolicy",
    "userfaultfd",
    // threads, time, signals
    "arch_prctl",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "exit",
    "exit_group",
    "futex",
    "futex_waitv",
    "get_robust_list",
    "getcpu",
    "getpid",
    "getppid",
    "gettid",
    "gettimeofday",
    "nanosleep",
    "prctl",
    "restart_syscall",
    "riscv_flush_icache",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "signalfd4",
    "tgkill",
    "time",
    "timer_create",
    "timer_delete",
    "timer_settime",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    "times",
    // who and what this process, and others, are
    "capget",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getuid",
    "kcmp",
    "kill",
    "pidfd_open",
    "pidfd_send_signal",
    "prlimit64",
    "sysinfo",
    "ugetrlimit",
    "uname",
    "wait4",
    "waitid",
    // files
    "access",
    "chdir",
    "chmod",
    "chown",
    "close",
    "close_range",
    "copy_file_range",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "fcntl",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "getcwd",
    "getdents",
    "getdents64",
    "getxattr",
    "inotify_add_watch",
    "inotify_init1",
    "inotify_rm_watch",
    "ioctl",
    "lchown",
    "lgetxattr",
    "link",
    "linkat",
    "listxattr",
    "lseek",
    "lstat",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendfile",
    "splice",
    "stat",
    "statfs",
    "statx",
    "symlink",
    "symlinkat",
    "sync_file_range",
    "syncfs",
    "tee",
    "truncate",
    "umask",
    "unlink",
    "unlinkat",
    "utimensat",
    "vmsplice",
    "write",
    "writev",
    // the mount, and private tmpfs
    "mount",
    "umount2",
    // waiting, and talking to local programs
    "accept",
    "accept4",
    "bind",
    "connect",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd2",
    "getpeername",
    "getrandom",
    "getsockname",
    "getsockopt",
    "listen",
    "pipe",
    "pipe2",
    "poll",
    "ppoll",
    "pselect6",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "select",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socketpair",
});

// What an attacker would reach for, refused in so many words. clone3 is not here: its flags cannot
// be looked at, and the C library takes clone where it is not known.
constexpr auto kRefused = std::to_array<std::string_view>({
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "chroot",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "execveat",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "mknod",
    "mknodat",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "reboot",
    "request_key",
    "setdomainname",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "sethostname",
    "setns",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "settimeofday",
    "setuid",
    "swapoff",
    "swapon",
    "syslog",
    "unshare",
    "vhangup",
});

// What being replaced by another program takes.
constexpr auto kForUpgrade = std::to_array<std::string_view>({"capset", "execve"});

struct Release {
    void operator()(void* filter) const { seccomp_release(filter); }
};

// libseccomp answers with negative errnos.
Status checked(int answer, std::string_view what) {
    if (answer == 0) return {};
    return base::sys_error("seccomp: " + std::string(what), -answer);
}

template <typename... Conditions>
Status add_rule(scmp_filter_ctx filter, std::uint32_t action, std::string_view name,
                Conditions... conditions) {
    const int number = seccomp_syscall_resolve_name(std::string(name).c_str());
    if (number == __NR_SCMP_ERROR) return {};
    return checked(seccomp_rule_add(filter, action, number, sizeof...(conditions), conditions...),
                   name);
}

Status add_rules(scmp_filter_ctx filter, const FilterOptions& options) {
    // To be replaced by another program, which drops capabilities in its turn.
    const auto exec = options.allows_exec ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM);
    if (!kIsSanitized)
        for (const auto name : kForUpgrade) RETURN_IF_ERROR(add_rule(filter, exec, name));
    if (!kIsSanitized)
        for (const auto name : kAllowed) RETURN_IF_ERROR(add_rule(filter, SCMP_ACT_ALLOW, name));
    for (const auto name : kRefused)
        if (!kIsSanitized || (name != "ptrace" && name != "personality"))
            RETURN_IF_ERROR(add_rule(filter, SCMP_ACT_ERRNO(EPERM), name));
    if (kIsSanitized) return {};
    constexpr unsigned kNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                     CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    RETURN_IF_ERROR(
        add_rule(filter, SCMP_ACT_ALLOW, "clone", SCMP_A0(SCMP_CMP_MASKED_EQ, kNamespaces, 0)));
    if (options.allows_internet) return add_rule(filter, SCMP_ACT_ALLOW, "socket");
    RETURN_IF_ERROR(add_rule(filter, SCMP_ACT_ALLOW, "socket", SCMP_A0(SCMP_CMP_EQ, AF_UNIX)));
    return add_rule(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), "socket", SCMP_A0(SCMP_CMP_NE, AF_UNIX));
}

}  // namespace

Status install_syscall_filter(const FilterOptions& options) {
    const std::unique_ptr<void, Release> filter(
        seccomp_init(kIsSanitized ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(ENOSYS)));
    if (!filter) return Error(Code::NotSupported, "this kernel has no seccomp filters");
    RETURN_IF_ERROR(add_rules(filter.get(), options));
    RETURN_IF_ERROR(checked(seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1), "tsync"));
    // A search tree: mount requests are many, and of short calls.
    RETURN_IF_ERROR(checked(seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2), "tree"));
    return checked(seccomp_load(filter.get()), "load the filter");
}

std::vector<std::string> allowed_syscalls() {
    std::vector<std::string> names(kAllowed.begin(), kAllowed.end());
    names.insert(names.end(), kForUpgrade.begin(), kForUpgrade.end());
    for (const auto* name : {"clone", "socket"}) names.emplace_back(name);
    return names;
}

std::vector<std::string> refused_syscalls() {
    return {kRefused.begin(), kRefused.end()};
}

}  // namespace refault::daemon
