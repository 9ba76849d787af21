// Coming back after the end of a daemon. All of it but the waiting is done by the pager's thread,
// which has nothing else to do then. It allocates, unlike the pager's work: a thread that waits in
// a fault while it holds the heap's lock would wait for ever, but nothing of the heap lies in a
// pool.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <utility>

#include "base/log.h"
#include "client/fork_gate.h"
#include "client/session.h"
#include "sys/socket.h"
#include "sys/userfaultfd.h"

namespace refault::client {

using base::Code;
using base::MutexLock;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr milliseconds kFirstPause{10};
constexpr milliseconds kLongestPause{1000};
// The two channels of a daemon that ends are not closed at the same moment.
constexpr int kHangUpMs = 1000;
// Who waits in a fault wakes the pager; a wish to disconnect does not.
constexpr int kLookAgainMs = 50;

// Another of the same length: of many clients not all come at once.
milliseconds jittered(milliseconds pause, std::minstd_rand& random) {
    return milliseconds(std::uniform_int_distribution<long>(
        pause.count() / 2, pause.count() + pause.count() / 2)(random));
}

Result<wire::Reply> ask(const base::UniqueFd& channel, const wire::Request& request) {
    RETURN_IF_ERROR(sys::send_message(channel.get(), wire::encode(request)));
    auto answer = sys::receive_message(channel.get(), wire::kMessageBytesMax);
    if (!answer) return answer.error();
    return wire::decode_reply(answer->bytes);
}

}  // namespace

void Session::set_patience(milliseconds patience) {
    MutexLock lock(link_mutex_);
    patience_ = patience;
    link_changed_.notify_all();
}

void Session::end_link() {
    MutexLock lock(link_mutex_);
    has_ended_ = true;
    link_changed_.notify_all();
}

void Session::set_when_abandoned(WhenAbandoned choice) {
    MutexLock lock(link_mutex_);
    when_abandoned_ = choice;
    link_changed_.notify_all();
}

void Session::sit_abandoned() {
    for (bool has_woken = false; stay_abandoned(steady_clock::now() + kLongestPause, has_woken);) {
    }
}

bool Session::stay_abandoned(steady_clock::time_point until, bool& has_woken) {
    {
        MutexLock lock(link_mutex_);
        if (is_disconnecting_) return false;
        if (when_abandoned_ == WhenAbandoned::Wait) {
            (void)link_changed_.wait_until(link_mutex_, until);
            return !is_disconnecting_;
        }
    }
    // What a daemon has read of the faults is not to be read again; who is woken asks anew.
    if (!std::exchange(has_woken, true)) mappings_.wake_all();
    refuse_touches();
    return true;
}

// Page by page, as they are touched: what is not shut goes on.
void Session::refuse_touches() {
    pollfd faults{userfaultfd_.get(), POLLIN, 0};
    if (::poll(&faults, 1, kLookAgainMs) <= 0) return;
    const auto events = sys::userfaultfd_read(userfaultfd_.get());
    if (!events) return;
    for (const auto& event : *events)
        base::discard(mappings_.refuse(base::align_down(event.address, base::kPageBytes)),
                      "it waits on, as it did");
}

bool Session::wait_for_return(std::uint64_t daemon) {
    for (;;) {
        // The pager may have ended for a reason of its own.
        const bool has_pager_ended = mappings_.end_reason().has_value();
        MutexLock lock(link_mutex_);
        if (daemon_ != daemon || has_ended_) return !has_ended_;
        if (has_pager_ended) return false;
        (void)link_changed_.wait_until(link_mutex_, steady_clock::now() + kLongestPause);
    }
}

// A daemon that is there still and has dropped this pager alone is not come back to.
bool Session::come_back() {
    // By the program's own wish.
    if (MutexLock lock(link_mutex_); has_ended_) return false;
    pollfd hang_up{channel_.get(), POLLRDHUP, 0};
    if (::poll(&hang_up, 1, kHangUpMs) <= 0) {
        end_link();
        return false;
    }
    if (const auto let_go = mappings_.let_stores_go(); !let_go)
        base::log_line(base::LogLevel::Warning,
                       "stores may have to wait for the next daemon: " + let_go.error().message());
    const auto since = steady_clock::now();
    std::minstd_rand random(static_cast<unsigned>(::getpid()) ^
                            static_cast<unsigned>(since.time_since_epoch().count()));
    auto pause = kFirstPause;
    const auto next_try = [&] {
        const auto at = steady_clock::now() + jittered(pause, random);
        pause = std::min(2 * pause, kLongestPause);
        return at;
    };
    while (wait_patiently(since, next_try()))
        if (try_to_come_back()) return true;
    give_up();
    for (bool has_woken = false;;) {
        for (const auto until = next_try(); steady_clock::now() < until;)
            if (!stay_abandoned(until, has_woken)) return false;
        if (try_to_come_back()) return true;
    }
}

bool Session::wait_patiently(steady_clock::time_point since, steady_clock::time_point until) {
    MutexLock lock(link_mutex_);
    for (;;) {
        const auto now = steady_clock::now();
        const auto over = since + std::max(patience_, milliseconds(0));
        const bool is_bounded = patience_ >= milliseconds(0);
        if (has_ended_ || (is_bounded && now >= over)) return false;
        if (now >= until) return true;
        (void)link_changed_.wait_until(link_mutex_, is_bounded ? std::min(until, over) : until);
    }
}

// Calls fail from here on, and no verdict comes for a fault, until a daemon has the session again.
void Session::give_up() {
    mappings_.end(daemon_gone());
    line_.end();
    MutexLock lock(link_mutex_);
    link_changed_.notify_all();
}

// Requests wait for the lock, or for the return, and then go to the new daemon.
Status Session::try_to_come_back() {
    std::string pool;
    auto channels = shake_hands(socket_path_, userfaultfd_.get(),
                                wire::Hello{handles_kernel_faults_, /*returns=*/true}, pool);
    if (!channels) return channels.error();
    if (pool != pool_) return Error(Code::NotFound, "another pool is open there now");
    MutexLock exchange_lock(exchange_mutex_);
    RETURN_IF_ERROR(take_up(channels->session));
    {
        ForkGate gate;
        if (::dup3(channels->session.get(), channel_.get(), O_CLOEXEC) < 0 ||
            ::dup3(channels->pager.get(), pager_channel_, O_CLOEXEC) < 0)
            return base::sys_error("dup3");
    }
    is_out_of_step_ = false;
    mappings_.go_on();
    MutexLock lock(link_mutex_);
    // Whoever disconnects meanwhile has shut the old pager channel; this one nobody would shut.
    if (has_ended_) return Error(Code::Gone, "the program disconnects");
    ++daemon_;
    link_changed_.notify_all();
    return {};
}

// What the daemon refuses is gone for this session: the number of a file means nothing any more,
// and a mapping shows nothing rather than memory that is not fenced.
Status Session::take_up(const base::UniqueFd& channel) {
    for (const auto& [handle, ticket] : tickets_) {
        const auto reply = ask(channel, wire::Reopen{ticket, handle});
        if (!reply) return reply.error();
    }
    for (const auto& remap : mappings_.remaps()) {
        const auto reply = ask(channel, remap);
        if (!reply) return reply.error();
        if (reply->error == 0) {
            mappings_.renew(remap.address, reply->mapping);
            continue;
        }
        base::log_line(base::LogLevel::Warning, "a mapping did not come back: " + reply->message);
        RETURN_IF_ERROR(mappings_.withdraw(remap.address));
    }
    if (notices_.mode() == NoticeBox::Mode::Late) return {};
    const auto reply = ask(channel, wire::SetNotice{true});
    return reply ? Status() : reply.error();
}

}  // namespace refault::client
