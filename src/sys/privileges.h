// What the kernel lets a thread do: capabilities, no_new_privs, a seccomp filter. Reads only.
// Stateless.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"

namespace refault::sys {

struct Privileges {
    std::uint64_t effective_capabilities = 0;  // bit CAP_x
    std::uint64_t permitted_capabilities = 0;
    std::uint64_t bounding_capabilities = 0;  // what it may ever get by exec
    bool has_no_new_privileges = false;
    int seccomp_mode = 0;  // 2: a filter
};
// Of the calling thread, or of what the path of a status file in /proc stands for.
base::Result<Privileges> read_privileges(const std::string& path = "/proc/thread-self/status");

}  // namespace refault::sys
