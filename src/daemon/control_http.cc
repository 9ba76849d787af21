// One connection as a stream for cpp-httplib.
#include "daemon/control_http.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>

#include "base/log.h"

namespace refault::daemon {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Set here and nowhere else: what a client sends under this name is taken out first.
constexpr const char* kRoleHeader = "X-Refault-Role";

// Reads until a point of time as long as the request is not whole, later as long as something comes
// within the same time.
class Connection final : public httplib::Stream {
  public:
    Connection(int socket, const ControlLimits& limits)
        : socket_(socket),
          request_patience_(limits.request_timeout_ms),
          answer_patience_(limits.answer_timeout_ms),
          deadline_(steady_clock::now() + request_patience_) {}

    // The head has been read; so many bytes come behind it.
    void expect_body(std::uint64_t length_bytes) { body_left_bytes_ = length_bytes; }
    // Of a file's bytes, which may take as long as they need.
    void expect_long_body() { is_body_long_ = true; }
    // What was answered before its body was read: a client that is still sending it would find the
    // connection closed, and by TCP the answer gone as well. The time of the request is all it has.
    void end() {
        (void)::shutdown(socket_, SHUT_WR);
        is_body_long_ = false;
        char rest[4096];
        while (body_left_bytes_ > 0 && read(rest, sizeof rest) > 0) {
        }
    }

    bool is_readable() const override {
        return wait(POLLIN, is_body_long_ ? request_patience_
                                          : std::chrono::duration_cast<milliseconds>(
                                                deadline_ - steady_clock::now()));
    }
    bool is_writable() const override { return wait(POLLOUT, answer_patience_); }
    // Few system calls though the library asks for single bytes of a head.
    ssize_t read(char* into, size_t size) override {
        if (begin_ == end_) {
            if (!is_readable()) return -1;
            ssize_t got;
            do got = ::recv(socket_, buffer_, sizeof buffer_, 0);
            while (got < 0 && errno == EINTR);
            if (got <= 0) return got;
            begin_ = 0;
            end_ = static_cast<std::size_t>(got);
        }
        const auto length = std::min(size, end_ - begin_);
        std::copy_n(buffer_ + begin_, length, into);
        begin_ += length;
        body_left_bytes_ -= std::min<std::uint64_t>(body_left_bytes_, length);
        return static_cast<ssize_t>(length);
    }
    ssize_t write(const char* from, size_t size) override {
        if (!is_writable()) return -1;
        ssize_t put;
        do put = ::send(socket_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (put < 0 && errno == EINTR);
        return put;
    }
    void get_remote_ip_and_port(std::string&, int&) const override {}
    void get_local_ip_and_port(std::string&, int&) const override {}
    socket_t socket() const override { return socket_; }
    bool was_too_slow() const { return was_too_slow_; }

  private:
    bool wait(short events, milliseconds patience) const {
        pollfd wait_for{socket_, events, 0};
        patience = std::max(patience, milliseconds(0));
        int ready;
        do ready = ::poll(&wait_for, 1, static_cast<int>(patience.count()));
        while (ready < 0 && errno == EINTR);
        if (ready == 0) was_too_slow_ = true;
        return ready > 0 && (wait_for.revents & POLLNVAL) == 0;
    }

    const int socket_;
    const milliseconds request_patience_;
    const milliseconds answer_patience_;
    const steady_clock::time_point deadline_;
    std::uint64_t body_left_bytes_ = 0;
    bool is_body_long_ = false;
    mutable bool was_too_slow_ = false;
    char buffer_[4096];
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};

const char* name_of(Role role) {
    switch (role) {
        case Role::Changer:
            return "changer";
        case Role::Looker:
            return "looker";
        case Role::Nobody:
            return "nobody";
    }
    return "nobody";
}

// As far as the head says: of a body in chunks some more than none.
std::uint64_t body_bytes_of(const httplib::Request& request) {
    if (request.has_header("Transfer-Encoding")) return UINT64_MAX;
    const auto length = request.get_header_value("Content-Length");
    std::uint64_t bytes = 0;
    std::from_chars(length.data(), length.data() + length.size(), bytes);
    return bytes;
}

}  // namespace

Role ControlHttp::role_of(const httplib::Request& request) {
    const auto role = request.get_header_value(kRoleHeader);
    if (role == name_of(Role::Changer)) return Role::Changer;
    return role == name_of(Role::Looker) ? Role::Looker : Role::Nobody;
}

void ControlHttp::serve(base::UniqueFd socket, const ControlPeer& peer) {
    Connection connection(socket.get(), limits_);
    bool is_closed = false;
    (void)process_request(
        connection, /*close_connection=*/true, is_closed, [&](httplib::Request& request) {
            const auto role = peer.is_tcp
                                  ? rights_.of_header(request.get_header_value("Authorization"))
                                  : rights_.of_user(peer.cred);
            request.headers.erase(kRoleHeader);
            request.headers.emplace(kRoleHeader, name_of(role));
            connection.expect_body(body_bytes_of(request));
            if (role == Role::Changer && request.method == "PUT") connection.expect_long_body();
        });
    if (connection.was_too_slow()) {
        const auto who = peer.is_tcp ? std::string("one by TCP")
                                     : "pid " + std::to_string(peer.cred.pid) + " of user " +
                                           std::to_string(peer.cred.uid);
        const auto line = refusals_->note("control", "slow",
                                          who +
                                              " did not end its request, or "
                                              "read its answer, in time");
        if (!line.empty()) base::log_line(base::LogLevel::Warning, "control API: hung up: " + line);
    }
    connection.end();
}

}  // namespace refault::daemon
