// A session's identity and doorbell.
#include "session/session.h"

#include <sys/socket.h>

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

bool Session::begin_fault(std::uint32_t max) noexcept {
    if (faults_waiting_.fetch_add(1) < max) return true;
    faults_waiting_.fetch_sub(1);
    return false;
}

void Session::hang_up(const base::Error& reason) {
    base::MutexLock lock(mutex_);
    if (hung_up_for_) return;
    hung_up_for_ = reason;
    if (channel_ >= 0) (void)::shutdown(channel_, SHUT_RDWR);
}

void Session::set_channel(int channel) {
    base::MutexLock lock(mutex_);
    channel_ = channel;
}

std::optional<base::Error> Session::hung_up_for() const {
    base::MutexLock lock(mutex_);
    return hung_up_for_;
}

}  // namespace refault::session
