// What is left of a process's rights after the daemon's way of dropping them. Each test looks in a
// child, which alone loses them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <thread>

#include "daemon/capabilities.h"
#include "daemon/syscall_filter.h"
#include "sys/privileges.h"

namespace refault::daemon {
namespace {

// The exit status of a child that runs this; 77 says that the kernel has no filters.
int in_child(const std::function<int()>& body) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(body());
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

int in_filtered_child(const std::function<int()>& body) {
    return in_child([&] {
        if (const auto installed = install_syscall_filter({}); !installed)
            return installed.error().code() == base::Code::NotSupported ? 77 : 78;
        return body();
    });
}

// The errno of a call by number, 0 when it succeeds.
template <typename... Arguments>
int errno_of(long number, Arguments... arguments) {
    return ::syscall(number, arguments...) < 0 ? errno : 0;
}

#define EXPECT_IN_FILTERED_CHILD(expression, expected)                         \
    do {                                                                       \
        const int left_ = in_filtered_child([] { return expression; });        \
        if (left_ == 77) GTEST_SKIP() << "this kernel has no seccomp filters"; \
        EXPECT_EQ(left_, expected) << #expression;                             \
    } while (false)

TEST(SyscallFilter, RefusesWhatTheDaemonNeverDoes) {
    char* const words[] = {nullptr};
    ASSERT_EQ(in_child([&] { return errno_of(SYS_execve, "/", words, words); }), EACCES);
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_unshare, 0), EPERM);
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_bpf, 0, nullptr, 0), EPERM);
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_init_module, nullptr, 0, ""), EPERM);
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_io_uring_setup, 1, nullptr), EPERM);
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_setresuid, -1, -1, -1), EPERM);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_execve, "/", nullptr, nullptr), EPERM);
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_capset, nullptr, nullptr), EPERM);
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0), EPERM);
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_socket, AF_INET, SOCK_STREAM, 0), EAFNOSUPPORT);
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_socket, AF_NETLINK, SOCK_RAW, 0), EAFNOSUPPORT);
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), ENOSYS);
    // As on a kernel that has it not.
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_semget, IPC_PRIVATE, 1, 0), ENOSYS);
#endif
}

// What `refault daemon upgrade`, and TCP, need of it.
TEST(SyscallFilter, LetsBeDoneWhatIsAskedFor) {
    const int left = in_child([] {
        const auto installed =
            install_syscall_filter({.allows_exec = true, .allows_internet = true});
        if (!installed) return installed.error().code() == base::Code::NotSupported ? 77 : 78;
        char* const words[] = {nullptr};
        if (errno_of(SYS_socket, AF_INET, SOCK_STREAM, 0) != 0) return 1;
        return errno_of(SYS_execve, "/", words, words) == EACCES ? 0 : 2;
    });
    if (left == 77) GTEST_SKIP() << "this kernel has no seccomp filters";
    EXPECT_EQ(left, 0);
}

TEST(SyscallFilter, LetsOrdinaryWorkBeDone) {
    EXPECT_IN_FILTERED_CHILD(([] {
                                 int seen = 0;
                                 std::thread([&] { seen = 1; }).join();
                                 return seen;
                             }()),
                             1);
    EXPECT_IN_FILTERED_CHILD(errno_of(SYS_socket, AF_UNIX, SOCK_SEQPACKET, 0), 0);
    EXPECT_IN_FILTERED_CHILD(::fallocate(::memfd_create("x", 0), 0, 0, 4096), 0);
}

TEST(SyscallFilter, CannotBeEscapedByExec) {
    EXPECT_IN_FILTERED_CHILD(
        [] {
            const auto rights = sys::read_privileges();
            return rights && rights->has_no_new_privileges && rights->seccomp_mode == 2 ? 1 : 0;
        }(),
        1);
}

TEST(SyscallFilter, NamesAreCallsAndStandInOneListOnly) {
    const auto refused = refused_syscalls();
    for (const auto& list : {allowed_syscalls(), refused})
        for (const auto& name : list) {
            // On some machine; a wrong name would be passed over without a word.
            bool is_known = false;
            for (const auto machine : {SCMP_ARCH_X86_64, SCMP_ARCH_AARCH64, SCMP_ARCH_RISCV64})
                is_known = is_known || seccomp_syscall_resolve_name_arch(machine, name.c_str()) !=
                                           __NR_SCMP_ERROR;
            // Newer than the library of some machines.
            EXPECT_TRUE(is_known || name == "fchmodat2") << name;
        }
    for (const auto& name : allowed_syscalls())
        EXPECT_EQ(std::count(refused.begin(), refused.end(), name), 0) << name;
}

TEST(Capabilities, OnlyTheNeededAreLeft) {
    if (::geteuid() != 0) GTEST_SKIP() << "an ordinary user has none";
    const auto before = sys::read_privileges();
    ASSERT_TRUE(before);
    EXPECT_EQ(in_child([&] {
                  if (!drop_capabilities()) return 1;
                  const auto left = sys::read_privileges();
                  const auto expected = before->permitted_capabilities & needed_capabilities();
                  if (!left || left->effective_capabilities != expected) return 2;
                  if (left->permitted_capabilities != expected) return 3;
                  return left->bounding_capabilities == expected ? 0 : 4;
              }),
              0);
    EXPECT_EQ(needed_capabilities() >> CAP_SYS_MODULE & 1, 0u);
}

TEST(Capabilities, HaveNames) {
    EXPECT_EQ(capability_names(1ull << CAP_KILL | 1ull << CAP_SYS_ADMIN),
              (std::vector<std::string>{"kill", "sys_admin"}));
    EXPECT_TRUE(capability_names(0).empty());
}

}  // namespace
}  // namespace refault::daemon
