// A session for a child process, made from the one that it has inherited: a userfaultfd, a pager
// and channels of its own, the same files by the same numbers, the same mappings at the same
// addresses. The child shows the daemon its parent's tickets, which are signed for the user, not
// the process.
//
// What is inherited is read without its locks: threads that the child does not have may hold them.
// What is read is changed inside of the fork gate alone, so no child sees it half changed.
#include <unistd.h>

#include <utility>

#include "client/session.h"
#include "sys/userfaultfd.h"

namespace refault::client {

using base::Code;
using base::MutexLock;

namespace {
constexpr std::chrono::seconds kPlacePatience{60};
}

Result<std::unique_ptr<Session>> Session::of_child(Session& inherited) {
    inherited.forget_parent();
    auto userfaultfd = sys::create_userfaultfd();
    if (!userfaultfd) return userfaultfd.error();
    std::string pool;
    auto channels = shake_hands(inherited.socket_path_, userfaultfd->fd.get(),
                                wire::Hello{userfaultfd->handles_kernel_faults}, pool);
    if (!channels) return channels.error();
    if (pool != inherited.pool_) return Error(Code::NotFound, "another pool is open there now");
    std::unique_ptr<Session> session(new Session(inherited.socket_path_, std::move(*channels),
                                                 std::move(userfaultfd->fd),
                                                 userfaultfd->handles_kernel_faults));
    session->pool_ = pool;
    session->inherited_ = &inherited;
    RETURN_IF_ERROR(session->mappings_.prepare());
    RETURN_IF_ERROR(session->inherit(inherited));
    session->sigbus_ = std::make_unique<SigbusEntry>(session->mappings_, session->line_);
    RETURN_IF_ERROR(session->pager_->start());
    for (const auto& remap : session->mappings_.remaps())
        RETURN_IF_ERROR(session->mappings_.wait_until_placed(
            remap.address, std::chrono::steady_clock::now() + kPlacePatience));
    return session;
}

// Before the pager is there: places that come meanwhile wait in the channel.
Status Session::inherit(Session& inherited) {
    inherited.exchange_mutex_.assert_held();
    inherited.link_mutex_.assert_held();
    MutexLock exchange_lock(exchange_mutex_);
    tickets_ = inherited.tickets_;
    {
        MutexLock lock(link_mutex_);
        patience_ = inherited.patience_;
        when_abandoned_ = inherited.when_abandoned_;
    }
    RETURN_IF_ERROR(mappings_.inherit(inherited.mappings_));
    return take_up(channel_);
}

// The parent's daemon must see its end, whoever lives on. Once.
void Session::forget_parent() {
    if (std::exchange(is_orphaned_, true)) return;
    if (sigbus_) sigbus_->forget_in_child();
    for (const int fd : {channel_.get(), pager_channel_, userfaultfd_.get()}) ::close(fd);
}

}  // namespace refault::client
