// Groups of users. Stateless.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"

namespace refault::sys {

// By its name, or the number itself.
base::Result<gid_t> find_group(const std::string& name);
// Makes this process a member of the group, which takes the right to (root, CAP_SETGID) unless it
// is one already. Before there are threads: the kernel keeps groups for each thread.
base::Result<gid_t> join_group(const std::string& name);

}  // namespace refault::sys
