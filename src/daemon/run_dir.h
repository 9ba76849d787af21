// The daemon's run directory: where its sockets are, and what keeps a second daemon away.
// Stateless.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "session/ticket.h"

namespace refault::daemon {

// /run/refault for root, else $XDG_RUNTIME_DIR/refault, else /tmp/refault-UID.
std::string default_run_dir();

// Makes it, and takes it for this daemon alone as long as the descriptor is open. Busy when another
// daemon has it; Denied when it is another user's (who could put sockets of his own there).
base::Result<base::UniqueFd> take_run_dir(const std::string& path);

// The key of the tickets that clients show to come back: the one an earlier daemon has left in the
// directory (`session.key`, of its user alone), else a new one that is left there. Denied when
// somebody else could have read or written it.
base::Result<session::TicketKey> take_ticket_key(int run_dir);

}  // namespace refault::daemon
