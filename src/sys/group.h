// Groups of users, and giving a file to one. Stateless.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"

namespace refault::sys {

// Makes this process a member of the group, which takes the right to (root, CAP_SETGID) unless it
// is one already. Before there are threads: the kernel keeps groups for each thread.
base::Result<gid_t> join_group(const std::string& name);

// For the owner of the file who is a member of the group, that is without CAP_CHOWN.
base::Status set_group(const std::string& path, gid_t group);

}  // namespace refault::sys
