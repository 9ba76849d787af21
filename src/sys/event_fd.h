// Waking a thread that polls: eventfd, and the epoll set. Stateless functions.
#pragma once

#include <sys/epoll.h>

#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"

namespace refault::sys {

// Non-blocking, close-on-exec.
base::Result<base::UniqueFd> create_event();
// Makes it readable.
void signal_event(int event) noexcept;
// Makes it unreadable again.
void clear_event(int event) noexcept;

base::Result<base::UniqueFd> create_epoll();
// Level-triggered for input; `tag` comes back in epoll_event::data.u64.
base::Status epoll_add(int epoll, int fd, std::uint64_t tag);

}  // namespace refault::sys
