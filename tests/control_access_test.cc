// Who may ask the control API of a real daemon: users by the kernel's word, and by TCP nobody
// without a token.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <memory>

#include "tests/hostile.h"

namespace refault::tests {
namespace {

constexpr const char* kToken = "0123456789abcdef0123456789abcdef";
constexpr const char* kLookToken = "fedcba9876543210fedcba9876543210";

std::uint16_t free_port() {
    const base::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
        throw std::runtime_error("no free port");
    return ntohs(address.sin_port);
}

base::UniqueFd connect_tcp(std::uint16_t port) {
    base::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        socket.reset();
    return socket;
}

// The status of the answer; 0 when there was none.
int ask_tcp(std::uint16_t port, const std::string& request_line, const std::string& headers,
            const std::string& body = "") {
    const auto socket = connect_tcp(port);
    if (!socket) return 0;
    const auto text = request_line + " HTTP/1.1\r\nHost: x\r\n" + headers +
                      "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    (void)::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
    std::string answer;
    char buffer[4096];
    for (ssize_t got; (got = ::recv(socket.get(), buffer, sizeof buffer, 0)) > 0;)
        answer.append(buffer, static_cast<std::size_t>(got));
    return answer.starts_with("HTTP/1.1 ") ? std::atoi(answer.c_str() + 9) : 0;
}

std::string bearer(const std::string& token) {
    return "Authorization: Bearer " + token + "\r\n";
}

class TokenFiles {
  public:
    TokenFiles() {
        write(change(), kToken);
        write(look(), kLookToken);
    }
    std::string change() const { return home_.path() + "/token"; }
    std::string look() const { return home_.path() + "/look-token"; }

  private:
    static void write(const std::string& path, const std::string& text) {
        std::ofstream(path) << text << "\n";
        ::chmod(path.c_str(), 0600);
    }
    TemporaryDirectory home_;
};

TEST(ControlAccess, ByTcpNobodyWithoutAToken) {
    const TokenFiles tokens;
    const auto port = free_port();
    const auto address = "127.0.0.1:" + std::to_string(port);
    Pool pool({"a=ram:64M", "b=ram:64M"}, {"--listen-tcp", address, "--token-file", tokens.change(),
                                           "--look-token-file", tokens.look()});
    const std::string status = "GET /v1/status", make = "POST /v1/files/create";
    const std::string file = "{\"path\": \"/made\"}";
    EXPECT_EQ(ask_tcp(port, status, ""), 401);
    EXPECT_EQ(ask_tcp(port, status, bearer("wrong")), 401);
    EXPECT_EQ(ask_tcp(port, status, bearer(std::string(kToken) + "0")), 401);
    EXPECT_EQ(ask_tcp(port, status, "X-Refault-Role: changer\r\n"), 401)
        << "not for clients to say";
    EXPECT_EQ(ask_tcp(port, make, "", file), 401);
    EXPECT_EQ(ask_tcp(port, status, bearer(kLookToken)), 200);
    EXPECT_EQ(ask_tcp(port, make, bearer(kLookToken), file), 403);
    EXPECT_EQ(ask_tcp(port, make, bearer(kLookToken) + "X-Refault-Role: changer\r\n", file), 403);
    EXPECT_EQ(ask_tcp(port, "GET /v1/files/data?path=/made", bearer(kLookToken)), 403);
    EXPECT_FALSE(pool.control().get("/v1/files/stat?path=/made")) << "nothing was made";
    EXPECT_EQ(ask_tcp(port, status, bearer(kToken)), 200);
    EXPECT_EQ(ask_tcp(port, make, bearer(kToken), file), 200);
    EXPECT_TRUE(pool.control().get("/v1/files/stat?path=/made"));

    // The command does the same.
    const auto with = cli::ControlClient::by_tcp(address, tokens.change());
    EXPECT_TRUE(with.get("/v1/status"));
    const auto looker = cli::ControlClient::by_tcp(address, tokens.look());
    EXPECT_TRUE(looker.get("/v1/devices"));
    EXPECT_FALSE(looker.post("/v1/pool/close", Json::object()));
}

// What is wrong, and which option mends it.
TEST(ControlAccess, WhoIsRefusedByTcpIsToldWhatToGive) {
    const TokenFiles tokens, others;
    const auto port = free_port();
    const auto address = "127.0.0.1:" + std::to_string(port);
    Pool pool({"a=ram:64M"}, {"--listen-tcp", address, "--token-file", tokens.change(),
                              "--look-token-file", tokens.look()});
    std::ofstream(others.change()) << "another-0123456789abcdef\n";
    const auto why = [](const std::string& to, const std::string& token_file) {
        const auto made =
            cli::ControlClient::by_tcp(to, token_file).post("/v1/pool/check", Json::object());
        return made ? std::string() : made.error().message();
    };
    EXPECT_EQ(why(address, tokens.change()), "");
    const auto nobody = std::to_string(free_port());
    for (const auto& [to, token_file, says] : std::vector<std::array<std::string, 3>>{
             {address, tokens.change() + ".none", tokens.change() + ".none"},
             {address, "", "give one with --token-file"},
             {address, others.change(), "the token in " + others.change() + " is refused"},
             {address, tokens.look(), "use the token of --token-file"},
             {"foo", tokens.change(), "write ADDRESS:PORT"},
             {"127.0.0.1:99999", tokens.change(), "write ADDRESS:PORT"},
             {"127.0.0.1:" + nobody, tokens.change(), "no daemon at 127.0.0.1 port " + nobody}})
        EXPECT_NE(why(to, token_file).find(says), std::string::npos) << why(to, token_file);
    const auto alone = run_refault(pool, {"--token-file", tokens.change(), "status"});
    EXPECT_EQ(alone.status, 2);
    EXPECT_TRUE(alone.err.starts_with("refault: --token-file requires --connect")) << alone.err;
}

TEST(ControlAccess, OffUnlessAskedForAndNeverWithoutAToken) {
    const TokenFiles tokens;
    const auto address = "127.0.0.1:" + std::to_string(free_port());
    EXPECT_FALSE(cli::LocalDaemon::start({"--listen-tcp", address}));
    EXPECT_FALSE(cli::LocalDaemon::start({"--token-file", tokens.change()}));
    ::chmod(tokens.change().c_str(), 0640);
    EXPECT_FALSE(
        cli::LocalDaemon::start({"--listen-tcp", address, "--token-file", tokens.change()}));
    ::chmod(tokens.change().c_str(), 0600);
    EXPECT_FALSE(cli::LocalDaemon::start(
        {"--listen-tcp", "127.0.0.1:99999", "--token-file", tokens.change()}));
    EXPECT_FALSE(cli::LocalDaemon::start({"--listen-tcp", address, "--token-file", tokens.change(),
                                          "--look-token-file", tokens.change()}));
    EXPECT_FALSE(
        cli::LocalDaemon::start({"--listen-tcp", "nowhere", "--token-file", tokens.change()}));
    EXPECT_TRUE(
        cli::LocalDaemon::start({"--listen-tcp", address, "--token-file", tokens.change()}));
}

// Thousands who connect by TCP and say nothing leave the unix socket alone.
TEST(ControlAccess, SilentConnectionsByTcpHoldUpNobody) {
    const TokenFiles tokens;
    const auto port = free_port();
    Besieged daemon({"--listen-tcp", "127.0.0.1:" + std::to_string(port), "--token-file",
                     tokens.change(), "--control-request-timeout", "500"});
    std::vector<base::UniqueFd> silent;
    for (int i = 0; i < 2000; ++i) {
        silent.push_back(connect_tcp(port));
        if (i % 200 != 0) continue;
        // One that sends a byte now and then is no better off.
        if (silent.back()) (void)::send(silent.back().get(), "G", 1, MSG_NOSIGNAL);
        daemon.expect_polite_goes_on();
        EXPECT_TRUE(daemon.pool().control().get("/v1/status"));
    }
    // Each is one too many, or too slow where the machine is.
    EXPECT_TRUE(eventually([&] {
        const auto slow = daemon.refused("control", "slow");
        return slow > 0 && daemon.refused("control", "too-many-of-user") + slow >= 1000;
    }));
    silent.clear();
    EXPECT_TRUE(eventually([&] { return ask_tcp(port, "GET /v1/status", bearer(kToken)) == 200; }));
    daemon.expect_nothing_kept();
}

TEST(ControlAccess, UsersLookAndTheGroupChanges) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become other users";
    Besieged daemon({"--control-mode", "0666", "--control-group", std::to_string(kBob)});
    const auto socket = daemon.pool().daemon().control_socket();
    struct stat status {};
    ASSERT_EQ(::stat(socket.c_str(), &status), 0);
    EXPECT_EQ(status.st_gid, kBob);
    EXPECT_EQ(
        as_user(kAlice,
                [&] {
                    const cli::ControlClient client(socket);
                    for (const char* target :
                         {"/v1/status", "/v1/devices", "/v1/lost", "/v1/maps", "/v1/limits"})
                        if (!client.get(target)) return 1;
                    for (const char* target : {"/v1/files/data?path=/polite",
                                               "/v1/files/list?path=/", "/v1/debug/fault-points"})
                        if (client.get(target)) return 2;
                    for (const char* target :
                         {"/v1/pool/close", "/v1/pull", "/v1/files/remove", "/v1/unmount"}) {
                        const auto refused = client.post(target, Json::object());
                        if (refused || refused.error().code() != base::Code::Denied) return 3;
                    }
                    return client.put_bytes("/v1/files/data?path=/x", "x") ? 4 : 0;
                }),
        0);
    EXPECT_EQ(as_user(kBob,
                      [&] {
                          const cli::ControlClient client(socket);
                          return client.put_bytes("/v1/files/data?path=/x", "x") ? 0 : 1;
                      }),
              0);
    EXPECT_EQ(as_user(kAlice,
                      [&] {
                          int seen = 0;
                          const cli::ControlClient client(socket);
                          const auto followed =
                              client.follow_events(0, [&](const Json&) { return ++seen < 1; });
                          return followed && seen == 1 ? 0 : 1;
                      }),
              0)
        << "who may look may follow";
    daemon.expect_polite_goes_on();
}

}  // namespace
}  // namespace refault::tests
