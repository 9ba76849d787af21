// A session from handshake to end.
#include "session/connection.h"

#include <poll.h>

#include <array>

#include "base/log.h"
#include "sys/process.h"
#include "sys/socket.h"
#include "sys/userfaultfd.h"

namespace refault::session {

using base::Code;
using base::Error;

namespace {

pid_t peer_pid(const base::UniqueFd& socket) {
    const auto peer = sys::peer_cred(socket.get());
    return peer ? peer->pid : 0;
}

}  // namespace

Connection::Connection(const ConnectionContext& context, base::SessionId id, base::UniqueFd socket)
    : context_(context), id_(id), socket_(std::move(socket)) {}

void Connection::run() {
    auto ended = shake_hands();
    if (ended) ended = serve();
    // Another thread had the reason; here it is but a channel that was shut.
    if (const auto reason = session_ ? session_->hung_up_for() : std::nullopt) ended = *reason;
    if (!ended && ended.error().code() != Code::Gone) tell_why(ended.error());
    close_all();
    // Not left to the destructor, which runs on the thread that accepts: closing can wait, for what
    // the client has sent and nobody has read.
    session_.reset();
    socket_.reset();
}

void Connection::tell_why(const Error& error) {
    const std::string who =
        session_ ? session_->describe() : "pid " + std::to_string(peer_pid(socket_));
    const auto line = context_.options.refusals->note("session", refusal_reason(error),
                                                      who + ": " + error.message());
    if (line.empty()) return;
    base::log_line(base::LogLevel::Warning,
                   "session " + std::to_string(id_.raw()) + " ended: " + line);
    context_.events.publish({"session-refused", {{"session", id_.raw()}, {"reason", line}}});
}

Status Connection::shake_hands() {
    std::array<pollfd, 2> first{pollfd{socket_.get(), POLLIN, 0},
                                pollfd{context_.stop_event, POLLIN, 0}};
    const auto patience_ms = static_cast<int>(context_.options.limits.hello_timeout_ms);
    if (::poll(first.data(), first.size(), patience_ms) <= 0)
        return Error(Code::TimedOut,
                     "no Hello in " + std::to_string(patience_ms) + " ms (--hello-timeout)");
    if (first[1].revents != 0) return Error(Code::Gone, "the server ends");
    const RequestGate::Passage passage(context_.gate);
    auto message = sys::receive_message(socket_.get(), wire::kMessageBytesMax);
    if (!message) return message.error();
    auto hello = wire::decode_hello(message->bytes);
    if (!hello) return hello.error();
    auto cred = sys::peer_cred(socket_.get());
    if (!cred) return cred.error();
    wire::Reply reply;
    Status accepted;
    if (message->descriptors.size() != 2)
        accepted =
            Error(Code::Corrupt, "Hello needs two descriptors: a userfaultfd and a pager channel");
    else if (!sys::is_seqpacket(message->descriptors[1].get()))
        accepted = Error(Code::Corrupt, "the pager channel is no local SOCK_SEQPACKET socket");
    else
        accepted = sys::userfaultfd_handshake(
            message->descriptors[0].get(),
            hello->returns ? sys::Handshake::MayBeMade : sys::Handshake::New);
    if (accepted) {
        session_ = std::make_shared<Session>(id_, *cred, std::move(message->descriptors[0]),
                                             std::move(message->descriptors[1]),
                                             hello->handles_kernel_faults);
        if (auto process = sys::open_pidfd(cred->pid)) process_ = std::move(*process);
        reply.session = id_.raw();
        reply.pool = context_.store.pool_name();
    } else {
        reply.error = accepted.error().sys_errno();
        reply.message = accepted.error().message();
    }
    RETURN_IF_ERROR(send(reply));
    if (!accepted) return accepted;
    // From here on there is no use for any.
    sys::refuse_descriptors(socket_.get());
    session_->set_channel(socket_.get());
    context_.registry.add_session(session_);
    context_.watch_pager(session_);
    context_.events.publish({"session-opened",
                             {{"session", id_.raw()},
                              {"pid", std::uint64_t(cred->pid)},
                              {"command", session_->command()}}});
    return {};
}

bool Connection::wait_for_message() {
    std::array<pollfd, 3> events{pollfd{socket_.get(), POLLIN, 0},
                                 pollfd{context_.stop_event, POLLIN, 0},
                                 pollfd{process_.get(), POLLIN, 0}};
    while (::poll(events.data(), events.size(), -1) < 0) {
    }
    return events[1].revents == 0 && events[2].revents == 0;
}

Status Connection::serve() {
    while (wait_for_message()) {
        const RequestGate::Passage passage(context_.gate);
        auto message = sys::receive_message(socket_.get(), wire::kMessageBytesMax);
        if (!message) return message.error();
        if (!message->descriptors.empty())
            return Error(Code::Corrupt, "descriptors where none belong");
        auto request = wire::decode_request(message->bytes);
        if (!request) return request.error();
        auto result = std::visit([this](const auto& typed) { return handle(typed); }, *request);
        wire::Reply reply;
        if (result) {
            reply = std::move(*result);
        } else {
            reply.error = result.error().sys_errno();
            reply.message = result.error().message();
        }
        RETURN_IF_ERROR(send(reply));
    }
    return {};
}

Status Connection::send(const wire::Reply& reply) {
    auto sent = sys::send_message(socket_.get(), wire::encode(reply));
    if (sent || sent.error().code() != Code::Busy) return sent;
    return Error(Code::Busy, "it does not read its answers (--reply-timeout)");
}

void Connection::close_all() {
    if (!session_) return;
    session_->set_channel(-1);
    context_.forget_pager(id_);
    context_.registry.remove_session(id_);
    for (const auto& [id, mapped] : mapped_)
        if (mapped.access == base::Access::ReadWrite) context_.faults.writer_gone(mapped.inode);
    for (const auto& [id, mapped] : mapped_) context_.store.unpin(mapped.inode);
    for (const auto& [handle, file] : files_) context_.store.unpin(file.inode);
    context_.events.publish(
        {"session-closed", {{"session", id_.raw()}, {"pid", std::uint64_t(session_->cred().pid)}}});
}

}  // namespace refault::session
