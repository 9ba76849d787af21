// The daemon's run directory: where its sockets are, and what keeps a second daemon away.
// Stateless.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace refault::daemon {

// /run/refault for root, else $XDG_RUNTIME_DIR/refault, else /tmp/refault-UID.
std::string default_run_dir();

// Makes it, and takes it for this daemon alone as long as the descriptor is open. Busy when another
// daemon has it; Denied when it is another user's (who could put sockets of his own there).
base::Result<base::UniqueFd> take_run_dir(const std::string& path);

}  // namespace refault::daemon
