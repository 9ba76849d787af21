// Connecting, exchanging requests, mapping.
#include "client/session.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "client/fork_gate.h"
#include "sys/socket.h"
#include "sys/userfaultfd.h"

namespace refault::client {

using base::Code;
using base::MutexLock;
using base::UniqueFd;

namespace {

// Memory on the move is handed out again within seconds; after this long something is wrong.
constexpr std::chrono::seconds kPlacePatience{60};

// A daemon that is restarted, or replaced, is there again within seconds.
constexpr std::chrono::seconds kReturnPatience{30};
// Again after a daemon that has ended in between.
constexpr int kHelloTries = 5;

constexpr const char* kChildRefused =
    "a child process cannot use its parent's session: connect anew in the child";

Error refusal(const wire::Reply& reply) {
    return Error(base::errno_to_code(reply.error), reply.message, reply.error);
}

Error no_daemon(const Error& error, const std::string& socket_path) {
    return Error(
        error.code(),
        "no daemon answers at " + socket_path +
            ": start refaultd, or name the session socket of a running one in REFAULT_SOCKET (" +
            error.message() + ")",
        error.sys_errno());
}

// Still reaches the daemon after the pager has stopped: it must not keep what is not there any
// more.
bool takes_back(const wire::Request& request) {
    return std::holds_alternative<wire::Unmap>(request) ||
           std::holds_alternative<wire::CloseFile>(request);
}

// What gives the same when it is done twice.
bool is_repeatable(const wire::Request& request) {
    if (const auto* create = std::get_if<wire::CreateFile>(&request)) return !create->exclusive;
    return !std::holds_alternative<wire::Unlink>(request) &&
           !std::holds_alternative<wire::MakeDirectory>(request) &&
           !std::holds_alternative<wire::RemoveDirectory>(request) &&
           !std::holds_alternative<wire::Rename>(request);
}

}  // namespace

Session::Session(std::string socket_path, Channels channels, UniqueFd userfaultfd,
                 bool handles_kernel_faults)
    : socket_path_(std::move(socket_path)),
      process_(::getpid()),
      channel_(std::move(channels.session)),
      userfaultfd_(std::move(userfaultfd)),
      handles_kernel_faults_(handles_kernel_faults),
      mappings_(userfaultfd_.get()),
      line_(channels.pager.get()),
      patience_(kReturnPatience),
      pager_channel_(channels.pager.get()) {
    pager_ = std::make_unique<Pager>(
        std::move(channels.pager), mappings_, line_, notices_, [this] { return come_back(); },
        [this] { sit_abandoned(); });
}

Result<std::unique_ptr<Session>> Session::connect(const std::string& socket_path) {
    RETURN_IF_ERROR(install_fork_gate());
    auto userfaultfd = sys::create_userfaultfd();
    if (!userfaultfd) return userfaultfd.error();
    RETURN_IF_ERROR(install_sigbus_handler());
    std::string pool;
    auto channels = shake_hands(socket_path, userfaultfd->fd.get(),
                                wire::Hello{userfaultfd->handles_kernel_faults}, pool);
    if (!channels) return channels.error();
    std::unique_ptr<Session> session(new Session(socket_path, std::move(*channels),
                                                 std::move(userfaultfd->fd),
                                                 userfaultfd->handles_kernel_faults));
    session->pool_ = pool;
    RETURN_IF_ERROR(session->mappings_.prepare());
    session->sigbus_ = std::make_unique<SigbusEntry>(session->mappings_, session->line_);
    RETURN_IF_ERROR(session->pager_->start());
    return session;
}

Result<Session::Channels> Session::shake_hands(const std::string& socket_path, int userfaultfd,
                                               const wire::Hello& hello, std::string& pool) {
    for (int tries_left = kHelloTries;; --tries_left) {
        auto channels = say_hello(socket_path, userfaultfd, hello, pool);
        // Nobody has read it: that daemon has ended, and there may be the next already.
        const bool was_unread = !channels && channels.error().sys_errno() == ECONNRESET;
        if (!was_unread || tries_left == 0) return channels;
    }
}

Result<Session::Channels> Session::say_hello(const std::string& socket_path, int userfaultfd,
                                             const wire::Hello& hello, std::string& pool) {
    auto channel = sys::connect_seqpacket(socket_path);
    if (!channel) return no_daemon(channel.error(), socket_path);
    auto pager = sys::seqpacket_pair();
    if (!pager) return pager.error();
    const std::array descriptors{userfaultfd, pager->second.get()};
    RETURN_IF_ERROR(sys::send_message(channel->get(), wire::encode(hello), descriptors));
    pager->second.reset();  // or the end of the daemon could not be seen
    auto answer = sys::receive_message(channel->get(), wire::kMessageBytesMax);
    if (!answer && answer.error().code() == Code::Gone && answer.error().sys_errno() != ECONNRESET)
        return Error(
            Code::Gone,
            "the daemon hung up at once; its log says why (perhaps it is of another version)");
    if (!answer) return answer.error();
    auto reply = wire::decode_reply(answer->bytes);
    if (!reply) return reply.error();
    if (reply->error != 0) return refusal(*reply);
    pool = reply->pool;
    return Channels{std::move(*channel), std::move(pager->first)};
}

Session::~Session() {
    // The pager first, so that nothing is placed at addresses that the program may use anew. Then
    // the mappings, and the channel last: as long as something is mapped the daemon must know of
    // it.
    {
        MutexLock lock(link_mutex_);
        has_ended_ = is_disconnecting_ = true;
        link_changed_.notify_all();
    }
    pager_.reset();
    sigbus_.reset();
    mappings_.remove_all();
}

Error Session::daemon_gone() {
    return Error(
        Code::Gone,
        "the daemon is gone, and no other has come in time: what is mapped keeps working; start "
        "the daemon, and call again: the session comes back by itself");
}

bool Session::is_in_its_process() const noexcept {
    return ::getpid() == process_;
}

Result<wire::Reply> Session::request(const wire::Request& request) {
    return this->request([&] { return request; }, {});
}

Result<wire::Reply> Session::request(const Make& make, const Take& take) {
    if (!is_in_its_process()) return Error(Code::Gone, kChildRefused);
    for (;;) {
        std::uint64_t daemon = 0;
        {
            MutexLock lock(link_mutex_);
            daemon = daemon_;
        }
        bool was_sent = false;
        wire::Request made;
        auto reply = exchange([&] { return made = make(); }, take, was_sent);
        if (reply || reply.error().code() != Code::Gone) {
            if (reply && reply->error != 0) return refusal(*reply);
            return reply;
        }
        if (takes_back(made) && take_back_alone(made, take)) return daemon_gone();
        if (!wait_for_return(daemon)) {
            if (auto reason = mappings_.end_reason()) return *reason;
            return daemon_gone();
        }
        if (was_sent && !is_repeatable(made))
            return Error(Code::Io,
                         "the daemon ended before it answered, so this may have been done or not; "
                         "look, and try again",
                         ECONNRESET);
    }
}

Result<wire::Reply> Session::exchange(const Make& make, const Take& take, bool& was_sent) {
    MutexLock lock(exchange_mutex_);
    const auto request = make();
    if (!takes_back(request))
        if (auto reason = mappings_.end_reason()) return *reason;
    if (is_out_of_step_) return daemon_gone();
    if (const auto sent = sys::send_message(channel_.get(), wire::encode(request)); !sent) {
        if (sent.error().code() == Code::Gone) is_out_of_step_ = true;
        return sent.error();
    }
    was_sent = true;
    auto answer = sys::receive_message(channel_.get(), wire::kMessageBytesMax);
    if (!answer) {
        // The reply may come yet, and would be taken for that to a later request.
        is_out_of_step_ = true;
        // Closed with the request unread (net/unix/af_unix.c, unix_release_sock): it was not done.
        was_sent = answer.error().sys_errno() != ECONNRESET;
        return answer.error();
    }
    auto reply = wire::decode_reply(answer->bytes);
    if (!reply || reply->error != 0) return reply;
    note_open(request, *reply);
    if (take)
        if (const auto taken = take(*reply); !taken) return taken.error();
    return reply;
}

bool Session::take_back_alone(const wire::Request& request, const Take& take) {
    MutexLock lock(exchange_mutex_);
    if (!is_out_of_step_ || !mappings_.end_reason()) return false;
    note_open(request, {});
    if (take) base::discard(take({}), "there is no daemon that it could contradict");
    return true;
}

void Session::note_open(const wire::Request& request, const wire::Reply& reply) {
    ForkGate gate;  // a child goes by it
    if (std::holds_alternative<wire::CreateFile>(request) ||
        std::holds_alternative<wire::OpenFile>(request))
        tickets_[reply.handle] = reply.ticket;
    if (const auto* closed = std::get_if<wire::CloseFile>(&request)) tickets_.erase(closed->handle);
}

Result<Session::Mapped> Session::map(wire::Map map) {
    if (auto reason = mappings_.end_reason()) return *reason;
    auto address = mappings_.reserve(map.length, map.access);
    if (!address) return address.error();
    map.address = *address;
    const auto reply = request(
        [&]() -> wire::Request {
            // Under exchange_mutex_, as Make says.
            exchange_mutex_.assert_held();
            const auto ticket = tickets_.find(map.handle);
            mappings_.set_origin(
                *address, ticket == tickets_.end() ? std::string() : ticket->second, map.offset);
            return map;
        },
        [&](const wire::Reply& answer) { return mappings_.identify(*address, answer.mapping); });
    if (!reply) {
        base::discard(unmap({*address, nullptr}), "what was said to the request is told");
        return reply.error();
    }
    const Mapped mapped{*address, mappings_.mirrors(*address)};
    const auto placed =
        mappings_.wait_until_placed(*address, std::chrono::steady_clock::now() + kPlacePatience);
    if (placed) return mapped;
    base::discard(unmap(mapped), "the reason is that it could not be placed");
    return placed.error();
}

Status Session::unmap(const Mapped& mapped) {
    // After the daemon's answer no fence acts on the addresses any more; without a daemon none does
    // either.
    if (is_in_its_process() && !mappings_.id(mapped.address)) {
        // No daemon has it any more.
        mappings_.remove(mapped.address);
        return {};
    }
    bool is_removed = false;
    const auto remove = [&](const wire::Reply&) {
        mappings_.remove(mapped.address);
        is_removed = true;
        return Status();
    };
    const auto reply = request(
        [&]() -> wire::Request {
            return wire::Unmap{mappings_.id(mapped.address).value_or(MappingId())};
        },
        remove);
    // In a child the addresses are free, or used for something else.
    if (!is_in_its_process()) return reply.error();
    if (!is_removed) mappings_.remove(mapped.address);
    if (!reply && reply.error().code() != Code::Gone) return reply.error();
    return {};
}

Status Session::accept(const Mapped& mapped, std::uint64_t offset, std::uint64_t length) {
    const auto reply = request(
        [&]() -> wire::Request {
            return wire::Accept{mappings_.id(mapped.address).value_or(MappingId()), offset, length};
        },
        {});
    return reply ? Status() : reply.error();
}

// In a child the mutex may be held by a thread that was not inherited.
void Session::note_failure(const std::string& sentence) {
    if (!is_in_its_process()) return;
    MutexLock lock(failure_mutex_);
    last_failure_ = sentence;
}

std::string Session::last_failure() const {
    if (!is_in_its_process()) return kChildRefused;
    MutexLock lock(failure_mutex_);
    return last_failure_;
}

}  // namespace refault::client
