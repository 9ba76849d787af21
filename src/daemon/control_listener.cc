// Accepting, counting, handing out to workers.
#include "daemon/control_listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>

#include "base/log.h"
#include "sys/event_fd.h"

namespace refault::daemon {

using base::Code;
using base::Error;
using base::MutexLock;
using base::Result;
using base::Status;
using base::UniqueFd;

namespace {
// How long nobody is accepted after the kernel could not.
constexpr int kAcceptPauseMs = 20;
constexpr int kWaitingInKernel = 128;
// All who come by TCP, whoever they are. Users have 32 bits.
constexpr std::uint64_t kTcpUser = std::uint64_t{1} << 32;
}  // namespace

ControlListener::ControlListener(const ControlLimits& limits,
                                 std::shared_ptr<session::Refusals> refusals,
                                 IsPrivileged is_privileged, Serve serve)
    : limits_(limits),
      refusals_(std::move(refusals)),
      is_privileged_(std::move(is_privileged)),
      serve_(std::move(serve)) {}

Status ControlListener::start(UniqueFd local, UniqueFd tcp) {
    auto stop = sys::create_event();
    if (!stop) return stop.error();
    stop_event_ = std::move(*stop);
    local_ = std::move(local);
    tcp_ = std::move(tcp);
    for (const auto* listener : {&local_, &tcp_})
        if (*listener) (void)::fcntl(listener->get(), F_SETFL, O_RDWR | O_NONBLOCK);
    for (std::size_t i = 0; i < kWorkers; ++i)
        workers_.emplace_back("control-" + std::to_string(i), [this] { work(); });
    accept_thread_ = base::NamedThread("control", [this] { accept_loop(); });
    return {};
}

ControlListener::~ControlListener() {
    if (stop_event_) sys::signal_event(stop_event_.get());
    accept_thread_.join();
    {
        MutexLock lock(mutex_);
        is_ending_ = true;
        waiting_.clear();
        changed_.notify_all();
    }
    for (auto& worker : workers_) worker.join();
}

void ControlListener::accept_loop() {
    std::array<pollfd, 3> events{pollfd{stop_event_.get(), POLLIN, 0},
                                 pollfd{local_.get(), POLLIN, 0}, pollfd{tcp_.get(), POLLIN, 0}};
    for (;;) {
        if (::poll(events.data(), events.size(), -1) < 0) continue;
        if (events[0].revents != 0) return;
        if (events[1].revents != 0) accept_from(local_.get(), /*is_tcp=*/false);
        if (events[2].revents != 0) accept_from(tcp_.get(), /*is_tcp=*/true);
    }
}

void ControlListener::turn_away(const UniqueFd& socket, const char* reason,
                                const std::string& text) {
    constexpr std::string_view kBody =
        "{\"error\":{\"code\":\"busy\",\"errno\":16,\"message\":\"too many connections to the "
        "control "
        "API; try again later\"}}\n";
    if (socket) {
        const std::string answer =
            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: "
            "application/json\r\nContent-Length: " +
            std::to_string(kBody.size()) + "\r\n\r\n" + std::string(kBody);
        // It fits into a new socket's buffer, or its peer has gone.
        (void)::send(socket.get(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (const auto line = refusals_->note("control", reason, text); !line.empty())
        base::log_line(base::LogLevel::Warning,
                       "a connection to the control API was turned away: " + line);
}

void ControlListener::accept_from(int listener, bool is_tcp) {
    auto socket = sys::accept_connection(listener, static_cast<int>(limits_.answer_timeout_ms));
    if (!socket) {
        const int failed = socket.error().sys_errno();
        if (socket.error().code() == Code::Busy) return;
        if ((failed == EMFILE || failed == ENFILE) && spare_.shed(listener))
            return turn_away({}, "no-descriptors", socket.error().message());
        turn_away({}, "not-accepted", socket.error().message());
        pollfd stop{stop_event_.get(), POLLIN, 0};
        (void)::poll(&stop, 1, kAcceptPauseMs);
        return;
    }
    Connection connection{std::move(*socket), {}, kTcpUser};
    connection.peer.is_tcp = is_tcp;
    if (!is_tcp) {
        auto cred = sys::peer_cred(connection.socket.get());
        if (!cred) return turn_away(connection.socket, "not-accepted", cred.error().message());
        connection.peer.cred = std::move(*cred);
        connection.peer.is_privileged = is_privileged_(connection.peer.cred);
        connection.user = connection.peer.cred.uid;
    }
    const bool is_privileged = connection.peer.is_privileged;
    const std::string who = is_tcp ? "one by TCP" : "user " + std::to_string(connection.user);
    const char* reason = nullptr;
    {
        MutexLock lock(mutex_);
        if (connections_ >= limits_.connections)
            reason = "too-many";
        else if (!is_privileged && (by_user_[connection.user] >= limits_.connections_per_user ||
                                    unprivileged_ >= kWorkers / 2))
            reason = "too-many-of-user";
        if (reason == nullptr) {
            ++connections_;
            ++by_user_[connection.user];
            if (!is_privileged) ++unprivileged_;
            waiting_.push_back(std::move(connection));
            changed_.notify_one();
            return;
        }
        if (by_user_[connection.user] == 0) by_user_.erase(connection.user);
    }
    turn_away(connection.socket, reason,
              who + " (--control-connections-max, --control-connections-per-user)");
}

void ControlListener::work() {
    for (;;) {
        Connection connection;
        {
            MutexLock lock(mutex_);
            while (!is_ending_ && waiting_.empty()) changed_.wait(mutex_);
            if (is_ending_) return;
            connection = std::move(waiting_.front());
            waiting_.pop_front();
        }
        serve_(std::move(connection.socket), connection.peer);
        MutexLock lock(mutex_);
        --connections_;
        if (--by_user_[connection.user] == 0) by_user_.erase(connection.user);
        if (!connection.peer.is_privileged) --unprivileged_;
    }
}

Result<UniqueFd> listen_local(const std::string& path, std::uint32_t mode,
                              std::optional<gid_t> group) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return Error(Code::Invalid, "socket path '" + path + "' is longer than 107 characters");
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const auto* name = reinterpret_cast<const sockaddr*>(&address);
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) return base::sys_error("socket");
    if (UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        ::connect(probe.get(), name, sizeof address) == 0 || errno == EAGAIN)
        return Error(Code::Busy, "another daemon answers at " + path +
                                     "; stop it or choose another run directory");
    ::unlink(path.c_str());
    const auto umask = ::umask(0177);  // until the chmod nobody else may connect
    const int bound = ::bind(socket.get(), name, sizeof address);
    const int bind_errno = errno;
    ::umask(umask);
    if (bound != 0) return base::sys_error("cannot listen at " + path, bind_errno);
    if (group && ::chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0)
        return base::sys_error("give " + path + " to the group of --control-group");
    if (::chmod(path.c_str(), mode) != 0) return base::sys_error("chmod " + path);
    if (::listen(socket.get(), kWaitingInKernel) != 0)
        return base::sys_error("cannot listen at " + path);
    return socket;
}

Result<TcpListener> listen_tcp(const std::string& address) {
    const auto colon = address.rfind(':');
    const Error wrong(Code::Invalid, "'" + address +
                                         "' is no address to listen at; write 127.0.0.1:PORT or "
                                         "[::1]:PORT");
    if (colon == address.npos || colon == 0) return wrong;
    // getaddrinfo() would take the lowest 16 bits of any number.
    std::uint16_t port = 0;
    const char* const end = address.data() + address.size();
    if (const auto parsed = std::from_chars(address.data() + colon + 1, end, port);
        parsed.ec != std::errc{} || parsed.ptr != end || port == 0)
        return Error(Code::Invalid, "'" + address +
                                        "' has no port to listen at; give a number from 1 to "
                                        "65535, as in 127.0.0.1:7070");
    std::string host = address.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (::getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0) return wrong;
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
    TcpListener made;
    made.socket = UniqueFd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!made.socket) return base::sys_error("socket");
    const int on = 1;
    (void)::setsockopt(made.socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(made.socket.get(), found->ai_addr, found->ai_addrlen) != 0 ||
        ::listen(made.socket.get(), kWaitingInKernel) != 0)
        return base::sys_error("cannot listen at " + address);
    sockaddr_storage bound{};
    socklen_t length = sizeof bound;
    (void)::getsockname(made.socket.get(), reinterpret_cast<sockaddr*>(&bound), &length);
    if (bound.ss_family == AF_INET) {
        const auto& ip4 = reinterpret_cast<const sockaddr_in&>(bound);
        made.is_loopback = (ntohl(ip4.sin_addr.s_addr) >> 24) == 127;
        made.address = host + ":" + std::to_string(ntohs(ip4.sin_port));
    } else {
        const auto& ip6 = reinterpret_cast<const sockaddr_in6&>(bound);
        made.is_loopback = IN6_IS_ADDR_LOOPBACK(&ip6.sin6_addr);
        made.address = "[" + host + "]:" + std::to_string(ntohs(ip6.sin6_port));
    }
    return made;
}

}  // namespace refault::daemon
