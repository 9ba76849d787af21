// The control API's requests on a real pool, without HTTP.
#include "daemon/control_api.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

namespace refault::daemon {
namespace {

using base::Code;
using std::chrono::seconds;
using std::chrono::steady_clock;

// The limit only bounds a failing test.
template <typename Condition>
bool eventually(Condition condition) {
    for (const auto end = steady_clock::now() + seconds(60); !condition(); ::poll(nullptr, 0, 1))
        if (steady_clock::now() > end) return false;
    return true;
}

class ControlApiTest : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_NE(::mkdtemp(top_.data()), nullptr);
        for (const char* name : {"/a", "/b", "/c"}) std::filesystem::create_directory(top_ + name);
        server_.socket_path = top_ + "/session.sock";
        api_ = std::make_unique<ControlApi>(events_, PoolOptions{server_, ""});
        routes_ = api_->routes();
    }
    void TearDown() override {
        api_.reset();
        std::error_code failure;
        std::filesystem::remove_all(top_, failure);
    }

    Result<Json> post(const std::string& route, const Json& body, const std::string& name = "") {
        return routes_.at("POST " + route)({name, {}, body.dump()});
    }
    Result<Json> get(const std::string& route, std::map<std::string, std::string> query = {},
                     const std::string& name = "") {
        return routes_.at("GET " + route)({name, std::move(query), ""});
    }
    std::string spec(const std::string& name) const {
        return name + "=dir:" + top_ + "/" + name + ",size=64M";
    }
    void create(const std::vector<std::string>& names) {
        Json devices = Json::array();
        for (const auto& name : names) devices.push_back(spec(name));
        auto made = post("/v1/pool/create", {{"name", "test"}, {"devices", devices}});
        ASSERT_TRUE(made) << made.error().message();
    }
    Json device(const std::string& name) {
        auto answer = get("/v1/devices/", {}, name);
        EXPECT_TRUE(answer) << answer.error().message();
        return answer ? *answer : Json::object();
    }

    std::string top_ = "/dev/shm/refault-api-XXXXXX";
    EventLog events_;
    session::ServerOptions server_;
    std::unique_ptr<ControlApi> api_;
    std::map<std::string, ControlApi::Handler> routes_;
};

TEST_F(ControlApiTest, WithoutAPoolItSaysHowToMakeOne) {
    for (const auto& [route, handler] : routes_) {
        auto answer =
            handler({"x", {{"path", "/x"}}, R"({"path": "/x", "from": "/a", "to": "/b"})"});
        if (route == "GET /v1/status" || route == "GET /v1/events/list" ||
            route == "GET /v1/limits") {
            EXPECT_TRUE(answer) << route;
        } else if (!route.starts_with("POST /v1/pool/") && route != "POST /v1/upgrade") {
            ASSERT_FALSE(answer) << route;
            EXPECT_EQ(answer.error().code(), Code::NotFound) << route;
            EXPECT_NE(answer.error().message().find("refault pool create"), std::string::npos)
                << route;
        }
    }
    EXPECT_EQ(get("/v1/status")->value("state", ""), "none");
    EXPECT_EQ(post("/v1/pool/close", {}).error().code(), Code::NotFound);
}

TEST_F(ControlApiTest, AClosedPoolOpensAgainWithItsFilesAndDeviceNames) {
    create({"a", "b"});
    ASSERT_TRUE(post("/v1/files/mkdir", {{"path", "/d"}}));
    ASSERT_TRUE(post("/v1/files/create", {{"path", "/d/f"}, {"mode", 0600}}));
    ASSERT_TRUE(post("/v1/files/resize", {{"path", "/d/f"}, {"size_bytes", 5'000'000}}));
    EXPECT_EQ(post("/v1/pool/create", {{"name", "x"}, {"devices", {"y=ram:64M"}}}).error().code(),
              Code::Busy);
    ASSERT_TRUE(post("/v1/pool/close", {}));
    // Without names: the devices know theirs.
    auto opened =
        post("/v1/pool/open", {{"devices", {"dir:" + top_ + "/b", "dir:" + top_ + "/a"}}});
    ASSERT_TRUE(opened) << opened.error().message();
    EXPECT_EQ(opened->value("pool", ""), "test");
    EXPECT_EQ(device("a").value("state", ""), "in-service");
    EXPECT_EQ(device("b").value("state", ""), "in-service");
    const auto stat = get("/v1/files/stat", {{"path", "/d/f"}});
    ASSERT_TRUE(stat);
    EXPECT_EQ(stat->value("size_bytes", 0), 5'000'000);
    EXPECT_EQ(stat->value("mode", 0), 0600);
    EXPECT_TRUE((*post("/v1/pool/check", {}))["problems"].empty());
}

TEST_F(ControlApiTest, APullMustBeSaidExactly) {
    create({"a", "b"});
    // None of these may start to move anything.
    for (const auto& body : std::vector<Json>{{{"devices", {"b"}}, {"dry_run", "true"}},
                                              {{"devices", {"b"}}, {"dry_run", 1}},
                                              {{"devices", {"b"}}, {"dryrun", true}},
                                              {{"devices", {"b"}}, {"rate_bytes_per_s", 0}},
                                              {{"devices", {"b"}}, {"rate_bytes_per_s", -1}},
                                              {{"devices", {"b"}}, {"timeout_ms", 1.5}},
                                              {{"devices", {"b"}}, {"timeout_ms", UINT64_MAX}},
                                              {{"devices", "b"}},
                                              {{"devices", Json::array()}},
                                              {{"devices", {"b", 7}}},
                                              Json::array({"b"}),
                                              "b",
                                              nullptr}) {
        auto answer = post("/v1/pull", body);
        ASSERT_FALSE(answer) << body;
        EXPECT_EQ(answer.error().code(), Code::Invalid) << body;
    }
    EXPECT_TRUE((*get("/v1/removals"))["removals"].empty());
    const auto plan = post("/v1/pull", {{"devices", {"b"}}, {"dry_run", true}});
    ASSERT_TRUE(plan) << plan.error().message();
    EXPECT_TRUE(plan->value("is_possible", false)) << *plan;
    EXPECT_TRUE((*get("/v1/removals"))["removals"].empty());
    EXPECT_EQ(device("b").value("state", ""), "in-service");
}

TEST_F(ControlApiTest, APulledDeviceStaysInSightUntilItsNameIsUsedAgain) {
    if (::geteuid() != 0) GTEST_SKIP() << "saying \"safe\" takes root";
    create({"a", "b"});
    auto started = post("/v1/pull", {{"devices", {"b"}}});
    ASSERT_TRUE(started) << started.error().message();
    ASSERT_TRUE(
        eventually([&] { return get("/v1/removals/", {}, "b")->value("has_ended", false); }));
    const auto pulled = device("b");
    EXPECT_EQ(pulled.value("state", ""), "removed") << pulled;
    EXPECT_EQ(pulled["slot"].value("power", ""), "off") << pulled;
    EXPECT_EQ(pulled["removal"].value("phase", ""), "safe") << pulled;
    EXPECT_TRUE(pulled["removal"]["proof"].value("is_proven", false)) << pulled;
    auto again = post("/v1/pull", {{"devices", {"b"}}});
    ASSERT_FALSE(again);
    EXPECT_NE(again.error().message().find("pulled already"), std::string::npos)
        << again.error().message();
    auto added = post("/v1/devices", {{"spec", "b=dir:" + top_ + "/c,size=64M"}});
    ASSERT_TRUE(added) << added.error().message();
    const auto back = device("b");
    EXPECT_EQ(back.value("state", ""), "in-service");
    EXPECT_EQ(back["slot"].value("power", ""), "on");
    EXPECT_FALSE(back.contains("removal")) << back;
    EXPECT_EQ((*get("/v1/devices"))["devices"].size(), 2u);
}

TEST_F(ControlApiTest, AnImpossiblePullIsRefusedWithItsReason) {
    create({"a"});
    ASSERT_TRUE(post("/v1/files/create", {{"path", "/f"}}));
    ASSERT_TRUE(post("/v1/files/resize", {{"path", "/f"}, {"size_bytes", 8u << 20}}));
    const auto plan = post("/v1/pull", {{"devices", {"a"}}, {"dry_run", true}});
    ASSERT_TRUE(plan);
    EXPECT_FALSE(plan->value("is_possible", true));
    EXPECT_FALSE(plan->value("reason", "").empty());
    auto refused = post("/v1/pull", {{"devices", {"a"}}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::NoSpace);
    EXPECT_EQ(device("a").value("state", ""), "in-service");
    EXPECT_EQ(device("a")["slot"].value("power", ""), "on");
}

TEST_F(ControlApiTest, TheLastDeviceStaysHoweverEmptyItIs) {
    create({"a", "b"});
    const auto plan = post("/v1/pull", {{"devices", {"a", "b"}}, {"dry_run", true}});
    ASSERT_TRUE(plan);
    EXPECT_FALSE(plan->value("is_possible", true)) << *plan;
    EXPECT_NE(plan->value("reason", "").find("refault device add"), std::string::npos) << *plan;
    auto refused = post("/v1/pull", {{"devices", {"a", "b"}}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::NoSpace);
    EXPECT_TRUE((*get("/v1/removals"))["removals"].empty());
}

TEST_F(ControlApiTest, LocateNamesTheOwners) {
    create({"a", "b"});
    ASSERT_TRUE(post("/v1/files/create", {{"path", "/f"}}));
    ASSERT_TRUE(post("/v1/files/resize", {{"path", "/f"}, {"size_bytes", 5u << 20}}));
    std::uint64_t file_bytes = 0, metadata_hits = 0;
    for (const auto* name : {"a", "b"}) {
        const auto answer =
            get("/v1/locate",
                {{"device", name}, {"offset", "0"}, {"length", std::to_string(64u << 20)}});
        ASSERT_TRUE(answer) << answer.error().message();
        for (const auto& owner : (*answer)["owners"]) {
            if (owner["owner"] == "metadata") {
                ++metadata_hits;
                continue;
            }
            EXPECT_EQ(owner.value("path", ""), "/f");
            const auto length = owner.value("device_end", 0ull) - owner.value("device_begin", 0ull);
            EXPECT_EQ(length, owner.value("file_end", 0ull) - owner.value("file_begin", 0ull));
            file_bytes += length;
        }
    }
    EXPECT_EQ(file_bytes, 5u << 20);
    EXPECT_GE(metadata_hits, 2u) << "two devices keep metadata";
    for (const auto& [offset, length] :
         std::vector<std::pair<std::string, std::string>>{{"0", "0"},
                                                          {"-1", "1"},
                                                          {"0", "99999999999999999999"},
                                                          {"18446744073709551615", "2"},
                                                          {"67108864", "1"},
                                                          {"1x", "1"}}) {
        auto answer = get("/v1/locate", {{"device", "a"}, {"offset", offset}, {"length", length}});
        ASSERT_FALSE(answer) << offset << " " << length;
        EXPECT_EQ(answer.error().code(), Code::Invalid);
    }
    EXPECT_EQ(get("/v1/maps", {{"device", "nobody"}}).error().code(), Code::NotFound);
    EXPECT_TRUE((*get("/v1/maps", {{"device", "a"}}))["mappings"].empty());
}

TEST_F(ControlApiTest, ThreeLocatorsGiveOneAnswer) {
    create({"a", "b"});
    ASSERT_TRUE(post("/v1/files/create", {{"path", "/f"}}));
    ASSERT_TRUE(post("/v1/files/resize", {{"path", "/f"}, {"size_bytes", 5u << 20}}));
    const auto ask = [&](const std::string& device, std::map<std::string, std::string> how) {
        how.insert({{"device", device}, {"offset", "0"}, {"length", std::to_string(64u << 20)}});
        auto answer = get("/v1/locate", how);
        EXPECT_TRUE(answer) << answer.error().message();
        return answer ? *answer : Json::object();
    };
    std::string file_device;
    Json file;
    for (const auto* device : {"a", "b"}) {
        const auto by_default = ask(device, {});
        EXPECT_EQ(by_default.size(), 2u) << "as it was before there were others: " << by_default;
        EXPECT_EQ(ask(device, {{"by", "rmap"}})["owners"], by_default["owners"]);
        EXPECT_EQ(ask(device, {{"by", "inodes"}})["owners"], by_default["owners"]);
        const auto unmapped = ask(device, {{"by", "pages"}});
        EXPECT_EQ(unmapped["owners"], Json::array());
        EXPECT_EQ(unmapped["mappings"], Json::array());
        EXPECT_GT(unmapped.value("processes_read", 0u), 0u);
        for (const auto& owner : by_default["owners"])
            if (owner["owner"] == "file") file_device = device, file = owner;
    }
    ASSERT_FALSE(file.is_null());
    // A process that has opened the segment's file by its path; this one.
    const auto begin = file.value("device_begin", 0ull);
    const auto segment_bytes = device(file_device).value("segment_bytes", 1ull);
    char name[32];
    std::snprintf(name, sizeof name, "/seg-%05llu", begin / segment_bytes);
    const int fd = ::open((top_ + "/" + file_device + name).c_str(), O_RDWR);
    void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                                static_cast<off_t>(begin % segment_bytes));
    ASSERT_NE(memory, MAP_FAILED);
    *static_cast<volatile char*>(memory) = 1;
    const auto mapped = ask(file_device, {{"by", "pages"}});
    ::munmap(memory, 4096);
    ::close(fd);
    ASSERT_EQ(mapped["mappings"].size(), 1u) << mapped;
    const auto& mapping = mapped["mappings"][0];
    EXPECT_EQ(mapping.value("pid", 0), ::getpid());
    EXPECT_FALSE(mapping.value("is_client", true));
    EXPECT_EQ(mapping["present"],
              Json::parse("[{\"device_begin\": " + std::to_string(begin) +
                          ", \"device_end\": " + std::to_string(begin + 4096) + "}]"));
    ASSERT_EQ(mapped["owners"].size(), 1u);
    EXPECT_EQ(mapped["owners"][0].value("path", ""), "/f");
    EXPECT_EQ(mapped["owners"][0].value("file_begin", 1ull), file.value("file_begin", 0ull));
    const auto refused =
        get("/v1/locate", {{"device", "a"}, {"offset", "0"}, {"length", "1"}, {"by", "magic"}});
    EXPECT_EQ(refused.error().code(), Code::Invalid);
}

TEST_F(ControlApiTest, CloseReturnsWithTheDevicesClosed) {
    create({"a", "b"});
    auto in_use = api_->pool();
    ASSERT_TRUE(in_use);
    std::atomic<bool> has_closed{false};
    std::thread closer([&] {
        EXPECT_TRUE(post("/v1/pool/close", {}));
        has_closed.store(true);
    });
    ASSERT_TRUE(eventually([&] { return !api_->pool(); }));
    EXPECT_FALSE(api_->is_open(in_use->get()));
    EXPECT_FALSE(has_closed.load()) << "a request under way still uses the pool";
    (*in_use).reset();
    closer.join();
    // Opening at once finds every device unlocked.
    auto opened =
        post("/v1/pool/open", {{"devices", {"dir:" + top_ + "/a", "dir:" + top_ + "/b"}}});
    EXPECT_TRUE(opened) << opened.error().message();
}

TEST_F(ControlApiTest, WhoWaitsForARemovalDoesNotHoldUpTheClose) {
    if (::geteuid() != 0) GTEST_SKIP() << "saying \"safe\" takes root";
    create({"a", "b"});
    ASSERT_TRUE(post("/v1/pull", {{"devices", {"b"}}}));
    ASSERT_TRUE(
        eventually([&] { return get("/v1/removals/", {}, "b")->value("has_ended", false); }));
    const auto version = std::to_string(get("/v1/removals/", {}, "b")->value("version", 0ull));
    std::thread waiter([&] {
        base::discard(get("/v1/removals/", {{"wait_version", version}, {"wait_ms", "30000"}}, "b"),
                      "only its end counts");
    });
    const auto begin = steady_clock::now();
    EXPECT_TRUE(post("/v1/pool/close", {}));
    EXPECT_LT(steady_clock::now() - begin, seconds(15));
    waiter.join();
    EXPECT_LT(steady_clock::now() - begin, seconds(15));
}

TEST_F(ControlApiTest, EventsTellWhatHappened) {
    create({"a", "b"});
    ASSERT_TRUE(post("/v1/pool/close", {}));
    const auto events = (*get("/v1/events/list"))["events"];
    ASSERT_EQ(events.size(), 2u) << events;
    EXPECT_EQ(events[0].value("kind", ""), "pool-created");
    EXPECT_EQ(events[1].value("kind", ""), "pool-closed");
    EXPECT_EQ((*get("/v1/events/list", {{"after", "1"}}))["events"].size(), 1u);
    EXPECT_FALSE(get("/v1/events/list", {{"after", "-1"}}));
}

}  // namespace
}  // namespace refault::daemon
