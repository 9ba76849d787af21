// A session's identity and doorbell.
#include "session/session.h"

#include "sys/process.h"
#include "sys/socket.h"

namespace refault::session {

Session::Session(base::SessionId id, base::Cred cred, base::UniqueFd userfaultfd,
                 base::UniqueFd pager_channel, bool handles_kernel_faults)
    : id_(id),
      cred_(std::move(cred)),
      command_(sys::command_of(cred_.pid)),
      userfaultfd_(std::move(userfaultfd)),
      pager_channel_(std::move(pager_channel)),
      handles_kernel_faults_(handles_kernel_faults) {}

void Session::ring() {
    if (!is_rung_.exchange(true)) tell(wire::Doorbell{});
}

void Session::tell(const wire::PagerMessage& message) {
    base::discard(
        sys::send_message(pager_channel(), wire::encode(message), {}, /*may_wait=*/false),
        "a peer that hung up is removed by the server; a full channel holds an unanswered "
        "doorbell");
}

}  // namespace refault::session
