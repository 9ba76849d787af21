// Accepting clients and joining their threads.
#include "session/server.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>

#include "base/log.h"
#include "session/connection.h"
#include "session/pager_loop.h"
#include "sys/event_fd.h"
#include "sys/socket.h"

namespace refault::session {

struct Server::Running {
    uid_t uid = 0;
    std::unique_ptr<Connection> connection;
    std::atomic<bool> has_ended{false};
    base::NamedThread thread;
};

namespace {
// How long nobody is accepted after the kernel could not.
constexpr int kAcceptPauseMs = 20;

ServerOptions with_refusals(ServerOptions options) {
    if (!options.refusals) options.refusals = std::make_shared<Refusals>();
    return options;
}
}  // namespace

Server::Server(store::Store& store, Registry& registry, FileService& files, FaultDesk& faults,
               base::EventSink& events, ServerOptions options)
    : store_(store),
      registry_(registry),
      files_(files),
      faults_(faults),
      events_(events),
      options_(with_refusals(std::move(options))) {}

Status Server::start() {
    auto listener = options_.inherited_listener >= 0
                        ? Result<base::UniqueFd>(base::UniqueFd(options_.inherited_listener))
                        : sys::listen_seqpacket(options_.socket_path, options_.socket_mode);
    if (!listener) return listener.error();
    auto stop = sys::create_event();
    if (!stop) return stop.error();
    auto reaped = sys::create_event();
    if (!reaped) return reaped.error();
    listener_ = std::move(*listener);
    stop_event_ = std::move(*stop);
    reap_event_ = std::move(*reaped);
    (void)::fcntl(listener_.get(), F_SETFL, O_RDWR | O_NONBLOCK);
    pagers_ = std::make_unique<PagerLoop>(registry_, faults_, options_.limits);
    RETURN_IF_ERROR(pagers_->start());
    auto key = options_.ticket_key ? Result<TicketKey>(*options_.ticket_key) : make_ticket_key();
    if (!key) return key.error();
    tickets_ = std::make_unique<Tickets>(*key, store_.pool_uuid());
    context_.reset(new ConnectionContext{
        store_, registry_, files_, faults_, events_, options_, gate_, *tickets_, stop_event_.get(),
        [this](std::shared_ptr<Session> session) { pagers_->watch(std::move(session)); },
        [this](base::SessionId session) { pagers_->forget(session); }});
    accept_thread_ = base::NamedThread("sessions", [this] { accept_loop(); });
    return {};
}

Result<base::UniqueFd> Server::duplicate_listener() const {
    base::UniqueFd listener(::fcntl(listener_.get(), F_DUPFD_CLOEXEC, 0));
    if (!listener) return base::sys_error("keep the session socket");
    return listener;
}

Server::~Server() {
    if (!stop_event_) return;
    gate_.open();
    sys::signal_event(stop_event_.get());
    accept_thread_.join();
    reap(/*all=*/true);
    pagers_.reset();
    if (listener_) ::unlink(options_.socket_path.c_str());
}

void Server::accept_loop() {
    std::array<pollfd, 3> events{pollfd{listener_.get(), POLLIN, 0},
                                 pollfd{stop_event_.get(), POLLIN, 0},
                                 pollfd{reap_event_.get(), POLLIN, 0}};
    for (;;) {
        if (::poll(events.data(), events.size(), -1) < 0) continue;
        if (events[1].revents != 0) return;
        if (events[2].revents != 0) {
            sys::clear_event(reap_event_.get());
            reap(/*all=*/false);
        }
        if (events[0].revents != 0) accept_one();
    }
}

void Server::refuse(std::string_view reason, const std::string& text) {
    const auto line = options_.refusals->note("session", reason, text);
    if (line.empty()) return;
    base::log_line(base::LogLevel::Warning, "a client was turned away: " + line);
    events_.publish({"session-refused", {{"session", std::uint64_t{0}}, {"reason", line}}});
}

std::optional<Server::Refusal> Server::refusal_for(uid_t uid) const {
    const auto& limits = options_.limits;
    if (running_.size() >= limits.sessions)
        return Refusal{"too-many",
                       std::to_string(running_.size()) + " sessions are open (--sessions-max)"};
    const auto of_user = static_cast<std::uint64_t>(
        std::count_if(running_.begin(), running_.end(),
                      [&](const Running& running) { return running.uid == uid; }));
    if (uid == 0 || of_user < limits.sessions_per_user) return std::nullopt;
    return Refusal{"too-many-of-user", "user " + std::to_string(uid) + " has " +
                                           std::to_string(of_user) +
                                           " sessions open (--sessions-per-user)"};
}

void Server::accept_one() {
    auto socket =
        sys::accept_connection(listener_.get(), static_cast<int>(options_.limits.reply_timeout_ms));
    if (!socket) {
        const int failed = socket.error().sys_errno();
        if (socket.error().code() == base::Code::Busy) return;
        if ((failed == EMFILE || failed == ENFILE) && spare_.shed(listener_.get()))
            return refuse("no-descriptors", socket.error().message());
        refuse("not-accepted", socket.error().message());
        pollfd stop{stop_event_.get(), POLLIN, 0};
        (void)::poll(&stop, 1, kAcceptPauseMs);
        return;
    }
    auto peer = sys::peer_cred(socket->get());
    if (!peer) return;
    if (const auto refusal = refusal_for(peer->uid))
        return refuse(refusal->reason, "pid " + std::to_string(peer->pid) + ": " + refusal->text);
    const base::SessionId id(next_session_++);
    Running& running = running_.emplace_back();
    running.uid = peer->uid;
    running.connection = std::make_unique<Connection>(*context_, id, std::move(*socket));
    auto thread = base::start_thread(
        "session-" + std::to_string(id.raw()),
        [&running, event = reap_event_.get()] {  // list nodes stay where they are
            running.connection->run();
            running.has_ended.store(true);
            sys::signal_event(event);
        });
    if (!thread) {
        running_.pop_back();
        return refuse("no-thread", thread.error().message());
    }
    running.thread = std::move(*thread);
}

void Server::reap(bool all) {
    std::erase_if(running_, [&](Running& running) {
        if (!all && !running.has_ended.load()) return false;
        running.thread.join();
        return true;
    });
}

}  // namespace refault::session
