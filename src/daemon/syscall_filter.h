// The seccomp filter of the daemon: the system calls that it and its libraries make, and no others.
// Called by main before there are other threads; all threads have it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace refault::daemon {

struct FilterOptions {
    bool allows_exec = false;      // what `refault daemon upgrade` needs
    bool allows_internet = false;  // sockets of other families than local ones
};
// From here on a call that is refused fails with EPERM, and one that is not known here with ENOSYS,
// as on a kernel that lacks it, so that a newer C library falls back on what is. Sets no_new_privs:
// a set-user-id helper gets no rights any more. NotSupported where the kernel has no filters.
base::Status install_syscall_filter(const FilterOptions& options);

// By name. For tests, and for who compares them with a unit file.
std::vector<std::string> allowed_syscalls();
std::vector<std::string> refused_syscalls();

}  // namespace refault::daemon
