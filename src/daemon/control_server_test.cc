// The HTTP transport, by bytes on its socket: what is malformed, too long, half open or slow must
// neither end the daemon nor use up its workers.
#include "daemon/control_server.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "base/unique_fd.h"

namespace refault::daemon {
namespace {

using base::UniqueFd;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr int kPatienceMs = 60'000;  // bounds a failing test

// One connection, spoken to in bytes.
class Wire {
  public:
    explicit Wire(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
        is_connected_ =
            ::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    }
    bool is_connected() const { return is_connected_; }
    // False when the peer has hung up.
    bool send(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t put = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (put <= 0) return false;
            bytes.remove_prefix(static_cast<std::size_t>(put));
        }
        return true;
    }

    // Until `mark` has come (empty: until the end).
    std::string receive(const std::string& mark = "") {
        std::string text;
        char buffer[65536];
        while (mark.empty() || text.find(mark) == text.npos) {
            pollfd wait_for{fd_.get(), POLLIN, 0};
            if (::poll(&wait_for, 1, kPatienceMs) <= 0) {
                ADD_FAILURE() << "nothing came after: " << text.substr(0, 200);
                break;
            }
            const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
            if (got <= 0) break;
            text.append(buffer, static_cast<std::size_t>(got));
        }
        return text;
    }

  private:
    UniqueFd fd_;
    bool is_connected_ = false;
};

int status_of(const std::string& answer) {
    return answer.starts_with("HTTP/1.1 ") ? std::atoi(answer.c_str() + 9) : 0;
}

std::string body_of(const std::string& answer) {
    const auto at = answer.find("\r\n\r\n");
    return at == answer.npos ? "" : answer.substr(at + 4);
}

class ControlServerTest : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_NE(::mkdtemp(top_.data()), nullptr);
        for (const char* name : {"/a", "/b"}) std::filesystem::create_directory(top_ + name);
        socket_ = top_ + "/control.sock";
        session::ServerOptions options;
        options.socket_path = top_ + "/session.sock";
        api_ = std::make_unique<ControlApi>(events_, PoolOptions{options, ""});
        server_ = std::make_unique<ControlServer>(*api_, ControlOptions{.socket_path = socket_});
        auto started = server_->start();
        ASSERT_TRUE(started) << started.error().message();
    }
    void TearDown() override {
        server_.reset();
        api_.reset();
        std::error_code failure;
        std::filesystem::remove_all(top_, failure);
    }
    void create_pool() {
        auto made = api_->create_pool(
            "test", {"a=dir:" + top_ + "/a,size=128M", "b=dir:" + top_ + "/b,size=128M"});
        ASSERT_TRUE(made) << made.error().message();
    }
    std::string ask(std::string_view bytes) {
        Wire wire(socket_);
        EXPECT_TRUE(wire.is_connected());
        wire.send(bytes);
        return wire.receive();
    }
    std::string get(const std::string& target, const std::string& headers = "") {
        return ask("GET " + target + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n");
    }
    std::string post(const std::string& target, const std::string& body) {
        return ask("POST " + target + " HTTP/1.1\r\nHost: x\r\nContent-Length: " +
                   std::to_string(body.size()) + "\r\n\r\n" + body);
    }
    void expect_alive() {
        const auto answer = get("/v1/status");
        EXPECT_EQ(status_of(answer), 200) << answer;
        EXPECT_TRUE(Json::accept(body_of(answer))) << answer;
    }
    // A 4xx or 5xx of the API's own form.
    static void expect_error(const std::string& answer, int status, const std::string& about) {
        EXPECT_EQ(status_of(answer), status) << about << ": " << answer.substr(0, 500);
        const auto json = Json::parse(body_of(answer), nullptr, false);
        ASSERT_TRUE(json.is_object() && json.contains("error"))
            << about << ": " << answer.substr(0, 500);
        EXPECT_FALSE(json["error"].value("message", "").empty()) << about;
        EXPECT_FALSE(json["error"].value("code", "").empty()) << about;
        EXPECT_GT(json["error"].value("errno", 0), 0) << about;
    }

    std::string top_ = "/dev/shm/refault-http-XXXXXX";
    std::string socket_;
    EventLog events_;
    std::unique_ptr<ControlApi> api_;
    std::unique_ptr<ControlServer> server_;
};

// A client that does not wait for its connection takes a full queue for an absent daemon.
TEST_F(ControlServerTest, ManyMayConnectAtOnce) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket_.c_str(), sizeof address.sun_path - 1);
    std::vector<UniqueFd> clients;
    for (int i = 0; i < 60; ++i) {
        clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        ASSERT_EQ(
            ::connect(clients.back().get(), reinterpret_cast<sockaddr*>(&address), sizeof address),
            0)
            << "the " << i << "th: " << std::strerror(errno);
    }
}

TEST_F(ControlServerTest, ProbesAndScrapesGetTheirOwnStatusAndType) {
    const auto state_of = [](const std::string& answer) {
        return Json::parse(body_of(answer), nullptr, false).value("status", "");
    };
    EXPECT_EQ(status_of(get("/v1/health/live")), 200);
    for (const auto* target : {"/v1/health", "/v1/health/ready"}) {
        EXPECT_EQ(status_of(get(target)), 503) << target;
        EXPECT_EQ(state_of(get(target)), "not-ready") << target;
    }
    create_pool();
    for (const auto* target : {"/v1/health", "/v1/health/ready", "/v1/health/live"}) {
        EXPECT_EQ(status_of(get(target)), 200) << target;
        EXPECT_EQ(body_of(get(target)), "{\"status\":\"ok\"}\n") << target;
    }
    auto lost = post("/v1/devices/b/fail", R"({"all": true})");
    EXPECT_EQ(status_of(lost), 200) << lost;
    // It serves, so that it is ready; somebody has to look, so that it is not well.
    EXPECT_EQ(status_of(get("/v1/health")), 503);
    EXPECT_EQ(state_of(get("/v1/health")), "degraded");
    EXPECT_EQ(status_of(get("/v1/health/ready")), 200);
    const auto metrics = get("/metrics");
    EXPECT_EQ(status_of(metrics), 200);
    EXPECT_NE(metrics.find("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
              metrics.npos);
    EXPECT_TRUE(body_of(metrics).starts_with("# HELP refault_")) << body_of(metrics);
    EXPECT_EQ(status_of(ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")), 200);
}

TEST_F(ControlServerTest, MalformedRequestsGetAnErrorEach) {
    create_pool();
    const std::string head = " HTTP/1.1\r\nHost: x\r\n";
    const std::string deep = std::string(500'000, '[') + std::string(500'000, ']');
    const auto sized = [](const std::string& body) {
        return "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    };
    const std::vector<std::tuple<const char*, std::string, int>> cases = {
        {"no such path", "GET /v1/nothing" + head + "\r\n", 404},
        {"no such method", "PATCH /v1/status" + head + sized("{}"), 404},
        {"not HTTP", "hello there\r\n\r\n", 400},
        {"binary", std::string("\0\xff\x01\r\n\r\n", 7), 400},
        {"very long target", "GET /v1/devices/" + std::string(20'000, 'x') + head + "\r\n", 414},
        {"long name", "GET /v1/devices/" + std::string(8'000, 'x') + head + "\r\n", 404},
        {"not JSON", "POST /v1/pull" + head + sized("{\"devices\": ["), 400},
        {"not an object", "POST /v1/pull" + head + sized("[]"), 400},
        {"deep JSON", "POST /v1/pull" + head + sized("{\"devices\": " + deep + "}"), 400},
        {"bytes that are not UTF-8",
         "POST /v1/pull" + head + sized("{\"devices\": [\"\xff\xfe\"]}"), 400},
        {"NUL in a path", "POST /v1/files/mkdir" + head + sized("{\"path\": \"/a\\u0000b\"}"), 400},
        {"no length", "POST /v1/pull" + head + "\r\n{}", 411},
        {"wrong length", "POST /v1/pull" + head + "Content-Length: -5\r\n\r\n{}", 400},
        {"huge length", "POST /v1/pull" + head + "Content-Length: 999999999999\r\n\r\n{}", 413},
        {"absurd length",
         "PUT /v1/files/data?path=/f" + head + "Content-Length: 99999999999999999999999\r\n\r\n{}",
         400},
        {"endless body",
         "POST /v1/pull" + head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 411},
        {"compressed body", "POST /v1/pull" + head + "Content-Encoding: gzip\r\n" + sized("{}"),
         415},
        {"compressed data",
         "PUT /v1/files/data?path=/f" + head + "Content-Encoding: gzip\r\n" + sized("xx"), 415},
        {"form",
         "PUT /v1/files/data?path=/f" + head + "Content-Type: multipart/form-data; boundary=x\r\n" +
             sized("--x--"),
         415},
        {"broken chunks",
         "PUT /v1/files/data?path=/f" + head + "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
         400},
        {"absurd range",
         "GET /v1/files/data?path=/f" + head + "Range: bytes=5-99999999999999999999\r\n\r\n", 416},
        {"data without a path", "GET /v1/files/data" + head + "\r\n", 400},
        {"data of nothing", "GET /v1/files/data?path=/none" + head + "\r\n", 404},
        {"data of a directory", "GET /v1/files/data?path=/" + head + "\r\n", 400},
        {"put to a directory", "PUT /v1/files/data?path=/" + head + sized("xx"), 400},
        {"offset beyond all",
         "PUT /v1/files/data?path=/f&offset=18446744073709551615" + head + sized("xx"), 0},
        {"offset not a number", "GET /v1/files/data?path=/f&offset=1e3" + head + "\r\n", 400},
        {"broken escape", "GET /v1/files/stat?path=%zz%" + head + "\r\n", 400},
    };
    for (const auto& [about, request, status] : cases) {
        const auto answer = ask(request);
        if (status == 0)
            EXPECT_GE(status_of(answer), 400) << about << ": " << answer;
        else
            expect_error(answer, status, about);
    }
    expect_alive();
}

// A client that sends its body behind the answer would be told that nobody answered.
TEST_F(ControlServerTest, WhoIsRefusedBeforeTheBodyMaySendItStill) {
    Wire wire(socket_);
    ASSERT_TRUE(
        wire.send("POST /v1/pull HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: "
                  "20\r\n\r\n"));
    EXPECT_EQ(status_of(wire.receive()), 415);
    for (int i = 0; i < 20; ++i) {
        expect_alive();
        ASSERT_TRUE(wire.send("x")) << "after " << i << " bytes";
    }
}

TEST_F(ControlServerTest, StatusesSayWhatKindOfAnswerItIs) {
    expect_error(get("/v1/devices"), 404, "no pool");
    create_pool();
    EXPECT_EQ(status_of(post("/v1/pull", R"({"devices": ["b"], "dry_run": true})")), 200);
    expect_error(post("/v1/pull", R"({"devices": ["a", "b"]})"), 409, "nobody stays");
    expect_error(post("/v1/pull", R"({"devices": ["nobody"]})"), 404, "no such device");
    expect_error(post("/v1/pool/create", R"({"name": "x", "devices": ["c=ram:64M"]})"), 409,
                 "a pool is open");
    EXPECT_EQ(status_of(post("/v1/pull", R"({"devices": ["b"]})")), 202);
    const auto list = get("/v1/events?follow=0&after=1");
    EXPECT_EQ(status_of(list), 200);
    EXPECT_TRUE(Json::parse(body_of(list), nullptr, false).contains("events")) << list;
}

TEST_F(ControlServerTest, FileBytesGoInAndOutUnchangedHoweverTheyAreSent) {
    create_pool();
    std::string content(9'000'001, '\0');
    std::uint32_t state = 7;
    for (auto& byte : content)
        byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    std::string chunked;
    for (std::size_t at = 0; at < content.size(); at += 100'000) {
        const auto piece = content.substr(at, 100'000);
        char size[16];
        std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
        chunked += size + piece + "\r\n";
    }
    const std::string head = " HTTP/1.1\r\nHost: x\r\n";
    auto put = ask("PUT /v1/files/data?path=/whole" + head +
                   "Content-Length: " + std::to_string(content.size()) + "\r\n\r\n" + content);
    EXPECT_EQ(status_of(put), 200) << put;
    EXPECT_EQ(Json::parse(body_of(put), nullptr, false).value("bytes", 0u), content.size());
    put = ask("PUT /v1/files/data?path=/chunked" + head + "Transfer-Encoding: chunked\r\n\r\n" +
              chunked + "0\r\n\r\n");
    EXPECT_EQ(status_of(put), 200) << put;
    for (const char* path : {"/whole", "/chunked"})
        EXPECT_TRUE(body_of(get(std::string("/v1/files/data?path=") + path)) == content) << path;
    EXPECT_EQ(body_of(get("/v1/files/data?path=/whole&offset=8999999&length=1")),
              content.substr(8'999'999, 1));
    EXPECT_EQ(body_of(get("/v1/files/data?path=/whole&offset=9000001")), "");
    EXPECT_TRUE((*api_->pool())->store().check().empty());
}

TEST_F(ControlServerTest, ABodyThatEndsEarlyIsNotTakenForWhole) {
    create_pool();
    Wire wire(socket_);
    wire.send(
        "PUT /v1/files/data?path=/f HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nshort");
    expect_error(wire.receive(), 400, "the rest did not come in time");
    // More than there is room for.
    const std::string step(1u << 20, 'x');
    Wire big(socket_);
    big.send(
        "PUT /v1/files/data?path=/big HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n");
    for (int i = 0; i < 1024 && big.send(step); ++i) {
    }
    expect_error(big.receive("}}"), 409, "no space");
    expect_alive();
}

TEST_F(ControlServerTest, FollowersGetEveryEventAndGoOnWhereTheyWere) {
    create_pool();
    Wire follower(socket_);
    follower.send("GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_NE(
        follower.receive("\"kind\":\"pool-created\"").find("id: 1\nevent: pool-created\ndata: {"),
        std::string::npos);
    EXPECT_NE(follower.receive(": still here").find(": still here"), std::string::npos);
    events_.publish({"probe", {{"number", std::uint64_t{42}}}});
    const auto event = follower.receive("\"number\":42");
    EXPECT_NE(event.find("id: 2\nevent: probe\n"), std::string::npos) << event;
    Wire resumed(socket_);
    resumed.send("GET /v1/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 1\r\n\r\n");
    const auto rest = resumed.receive("\"number\":42");
    EXPECT_EQ(rest.find("pool-created"), std::string::npos) << rest;
    expect_error(get("/v1/events?after=x"), 400, "not a number");
}

TEST_F(ControlServerTest, FollowersCannotTakeAllWorkers) {
    std::vector<std::unique_ptr<Wire>> followers;
    for (int i = 0; i < 32; ++i) {
        followers.push_back(std::make_unique<Wire>(socket_));
        followers.back()->send("GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
        EXPECT_EQ(status_of(followers.back()->receive("\r\n\r\n")), 200) << i;
    }
    expect_error(get("/v1/events"), 503, "one too many");
    expect_alive();
    followers.pop_back();
    // Its place is free once the server has noticed.
    const auto end = steady_clock::now() + seconds(60);
    int status = 503;
    while (status == 503 && steady_clock::now() < end) {
        Wire next(socket_);
        next.send("GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
        status = status_of(next.receive("\r\n\r\n"));
    }
    EXPECT_EQ(status, 200);
}

TEST_F(ControlServerTest, HalfOpenConnectionsDoNotHoldWorkers) {
    std::vector<std::unique_ptr<Wire>> silent;
    for (int i = 0; i < 100; ++i) {
        silent.push_back(std::make_unique<Wire>(socket_));
        if (i % 2 == 0) silent.back()->send("GET /v1/sta");
    }
    const auto begin = steady_clock::now();
    expect_alive();
    EXPECT_LT(steady_clock::now() - begin, seconds(20));
}

TEST_F(ControlServerTest, TheSocketIsTheOwnersAlone) {
    struct stat status {};
    ASSERT_EQ(::stat(socket_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    {
        EventLog events;
        ControlApi api(events, {});
        ControlServer second(api, {.socket_path = socket_});
        auto started = second.start();
        ASSERT_FALSE(started);
        EXPECT_EQ(started.error().code(), base::Code::Busy);
    }
    expect_alive();  // the refused one has left the socket alone
}

TEST(ControlServer, EndsHoweverSoonItIsTold) {
    std::string top = "/dev/shm/refault-http-XXXXXX";
    ASSERT_NE(::mkdtemp(top.data()), nullptr);
    for (int i = 0; i < 20; ++i) {
        EventLog events;
        ControlApi api(events, {});
        ControlServer server(api, {.socket_path = top + "/control.sock"});
        EXPECT_TRUE(server.start());
    }
    EXPECT_TRUE(std::filesystem::is_empty(top)) << "the socket is removed at the end";
    std::filesystem::remove_all(top);
}

}  // namespace
}  // namespace refault::daemon
