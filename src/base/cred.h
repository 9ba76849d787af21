// Who asks: the identity of a peer as the kernel gives it, and the permission rule of files.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace refault::base {

struct Cred {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;  // supplementary
    pid_t pid = 0;              // 0 when not a process of its own (the daemon itself)
};

enum class Access : std::uint8_t { Read, ReadWrite };

// The POSIX rule: the owner's bits if the owner asks, else the group's, else the others'; uid 0 may
// all but execute. `want` is a mask of 4 (read), 2 (write), 1 (search or execute); search is
// granted to uid 0.
bool may_access(const Cred& who, uid_t owner, gid_t group, mode_t mode, int want) noexcept;

}  // namespace refault::base
