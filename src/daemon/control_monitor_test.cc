// Health and metrics of real pools: in the format, and in agreement with the JSON views.
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "daemon/control_api.h"
#include "daemon/test_metrics.h"

namespace refault::daemon {
namespace {

class MonitorTest : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_NE(::mkdtemp(top_.data()), nullptr);
        for (const char* name : {"/a", "/b"}) std::filesystem::create_directory(top_ + name);
        session::ServerOptions server;
        server.socket_path = top_ + "/session.sock";
        api_ = std::make_unique<ControlApi>(events_, PoolOptions{server, ""});
        routes_ = api_->routes();
    }
    void TearDown() override {
        api_.reset();
        std::error_code failure;
        std::filesystem::remove_all(top_, failure);
    }

    Json post(const std::string& route, const Json& body, const std::string& name = "") {
        auto answer = routes_.at("POST " + route)({name, {}, body.dump()});
        EXPECT_TRUE(answer) << route << ": " << (answer ? "" : answer.error().message());
        return answer ? *answer : Json();
    }
    Json get(const std::string& route, std::map<std::string, std::string> query = {}) {
        auto answer = routes_.at("GET " + route)({"", std::move(query), ""});
        EXPECT_TRUE(answer) << route << ": " << (answer ? "" : answer.error().message());
        return answer ? *answer : Json();
    }
    std::string spec(const std::string& name) const {
        return name + "=dir:" + top_ + "/" + name + ",size=64M";
    }
    void create(const std::vector<std::string>& names, const std::string& pool_name = "test") {
        std::vector<std::string> specs;
        for (const auto& name : names) specs.push_back(spec(name));
        auto made = api_->create_pool(pool_name, specs);
        ASSERT_TRUE(made) << made.error().message();
    }
    // Of bytes, not of holes.
    void create_file(const std::string& path, std::uint64_t size_bytes) {
        const auto made = post("/v1/files/create", {{"path", path}});
        const base::InodeNo inode(made["inode"].get<std::uint64_t>());
        auto open = api_->pool();
        ASSERT_TRUE(open);
        auto put = (*open)->files().write(inode, 0, std::vector<std::uint8_t>(size_bytes, 1));
        ASSERT_TRUE(put) << put.error().message();
    }
    // Where the file's first page lies.
    Json place_of(const std::string& path) {
        const auto devices = get("/v1/devices")["devices"];
        for (const auto& device : devices) {
            const auto owners = get("/v1/locate", {{"device", device["name"].get<std::string>()},
                                                   {"offset", "0"},
                                                   {"length", "67108864"}})["owners"];
            for (const auto& owner : owners)
                if (owner.value("path", "") == path)
                    return {{"device", device["name"]}, {"offset", owner["device_begin"]}};
        }
        ADD_FAILURE() << path << " lies nowhere";
        return {};
    }
    ParsedMetrics metrics() {
        const auto text = api_->metrics();
        ParsedMetrics parsed(text);
        EXPECT_EQ(parsed.error(), "") << text;
        return parsed;
    }
    // Every figure that both have, of one moment: other threads may still be at work.
    void expect_agreement() {
        for (;;) {
            const auto sequence = events_.last_sequence();
            const auto parsed = metrics();
            const auto status = get("/v1/status");
            const auto lost = get("/v1/lost")["lost"];
            const auto failures = get("/v1/failures")["failures"];
            if (sequence != events_.last_sequence()) continue;
            expect_same(parsed, "refault_lost_ranges", lost.size());
            expect_same(parsed, "refault_failures_total", failures.size());
            return expect_agreement(parsed, status);
        }
    }
    static void expect_same(const ParsedMetrics& parsed, const std::string& series,
                            const Json& value) {
        ASSERT_TRUE(value.is_number()) << series;
        EXPECT_EQ(parsed.value(series), value.get<double>()) << series;
    }
    static void expect_agreement(const ParsedMetrics& parsed, const Json& status) {
        const auto expect = [&](const std::string& series, const Json& value) {
            expect_same(parsed, series, value);
        };
        const auto& losses = status["losses"];
        for (const auto* same : {"lost_bytes", "lost_files", "missing_copy_bytes",
                                 "files_missing_copies", "unsynced_files", "retired_bytes"})
            expect(std::string("refault_") + same, losses[same]);
        expect("refault_failures_open", losses["failures_not_repaired"]);
        expect("refault_sessions", status["sessions"]);
        expect("refault_mounts", status["mounts"].size());
        expect("refault_removals_running", status["removals"].size());
        expect("refault_events_total", status["last_event"]);
        expect("refault_healthy", status["health"]["status"] == "ok" ? 1 : 0);
        for (const auto* same : {"log_bytes", "checkpoint_bytes", "epoch", "copies"})
            expect(std::string("refault_metadata_") + same, status["metadata"][same]);
        for (const auto& device : status["devices"]) {
            const auto name = device["name"].get<std::string>();
            for (const auto* same :
                 {"capacity_bytes", "data_bytes", "metadata_bytes", "free_bytes", "extents"})
                expect("refault_device_" + std::string(same) + "{device=\"" + name + "\"}",
                       device[same]);
            expect_state(parsed, "refault_device_state", name, device["state"]);
            expect_state(parsed, "refault_device_slot_state", name, device["slot"]["state"]);
        }
    }
    // It is 1, and no other state of the device is.
    static void expect_state(const ParsedMetrics& parsed, const std::string& family,
                             const std::string& device, const Json& state) {
        const auto head = family + "{device=\"" + device + "\",state=\"";
        EXPECT_EQ(parsed.value(head + state.get<std::string>() + "\"}"), 1) << head << state;
        double sum = 0;
        for (const auto& [series, value] : parsed.samples())
            if (series.starts_with(head)) sum += value;
        EXPECT_EQ(sum, 1) << head;
    }

    std::string top_ = "/dev/shm/refault-monitor-XXXXXX";
    EventLog events_;
    std::unique_ptr<ControlApi> api_;
    std::map<std::string, ControlApi::Handler> routes_;
};

std::vector<std::string> codes_of(const Health& health) {
    std::vector<std::string> codes;
    for (const auto& reason : health.reasons) codes.push_back(reason.code);
    return codes;
}

TEST_F(MonitorTest, WithoutAPoolThereIsTheProcessAlone) {
    EXPECT_FALSE(api_->health().is_ready);
    const auto parsed = metrics();
    EXPECT_EQ(parsed.value("refault_pool_open"), 0);
    EXPECT_EQ(parsed.value("refault_ready"), 0);
    EXPECT_EQ(parsed.value("refault_healthy"), 0);
    EXPECT_FALSE(parsed.families().contains("refault_files"));
    for (const auto* name :
         {"refault_process_resident_memory_bytes", "refault_process_open_fds",
          "refault_process_max_fds", "refault_process_threads", "refault_process_cpu_seconds_total",
          "refault_process_start_time_seconds"})
        EXPECT_GT(parsed.value(name).value_or(0), 0) << name;
}

TEST_F(MonitorTest, AnOpenDescriptorIsCounted) {
    const auto before = metrics().value("refault_process_open_fds");
    const int copy = ::dup(0);
    EXPECT_EQ(metrics().value("refault_process_open_fds"), *before + 1);
    ::close(copy);
    EXPECT_EQ(metrics().value("refault_process_open_fds"), *before);
}

TEST_F(MonitorTest, AGoodPoolIsReadyAndItsFiguresAgree) {
    create({"a", "b"});
    create_file("/one", 5'000'000);
    create_file("/two", 4096);
    EXPECT_TRUE(api_->health().is_ok());
    expect_agreement();
    const auto parsed = metrics();
    EXPECT_EQ(parsed.value("refault_files"), 2);
    EXPECT_EQ(parsed.value("refault_files_size_bytes"), 5'004'096);
    EXPECT_EQ(parsed.value("refault_ready"), 1);
    EXPECT_EQ(parsed.value("refault_pool_open"), 1);
    EXPECT_EQ(parsed.families().at("refault_events_total").type, "counter");
    post("/v1/pool/close", {});
    EXPECT_EQ(metrics().value("refault_ready"), 0);
    EXPECT_FALSE(metrics().families().contains("refault_files"));
}

TEST_F(MonitorTest, ALostRangeIsNoLongerHealthyUntilItIsPunched) {
    create({"a", "b"});
    create_file("/one", 1 << 20);
    auto place = place_of("/one");
    post("/v1/devices/*/fail", {{"offset", place["offset"]}, {"length", 4096}}, place["device"]);
    EXPECT_EQ(codes_of(api_->health()), std::vector<std::string>{"ranges-lost"});
    EXPECT_TRUE(api_->health().is_ready);
    expect_agreement();
    EXPECT_EQ(metrics().value("refault_lost_bytes"), 4096);
    EXPECT_EQ(metrics().value("refault_failure_unmapped_seconds_count"), 1);
    post("/v1/files/punch", {{"path", "/one"}, {"offset", 0}, {"length", 4096}});
    EXPECT_TRUE(api_->health().is_ok());
    expect_agreement();
}

TEST_F(MonitorTest, ALostDeviceIsNamedUntilAnotherTakesItsPlace) {
    create({"a", "b"});
    post("/v1/devices/*/fail", {{"all", true}}, "b");
    EXPECT_EQ(codes_of(api_->health()), std::vector<std::string>{"device-lost"});
    EXPECT_EQ(api_->health().reasons.front().device, "b");
    expect_agreement();
    EXPECT_EQ(metrics().value("refault_device_state{device=\"b\",state=\"lost\"}"), 1);
    // The lost one's directory is kept; another directory under its name.
    std::filesystem::create_directory(top_ + "/c");
    post("/v1/devices", {{"spec", "b=dir:" + top_ + "/c,size=64M"}});
    EXPECT_TRUE(api_->health().is_ok()) << to_json(api_->health());
    expect_agreement();
}

TEST_F(MonitorTest, LostMetadataIsNotReady) {
    create({"a"});
    std::filesystem::remove_all(top_ + "/a");
    // The limit only bounds a failing test.
    for (int ms = 0; api_->health().is_ready && ms < 60'000; ++ms) ::poll(nullptr, 0, 1);
    const auto health = api_->health();
    EXPECT_FALSE(health.is_ready);
    ASSERT_FALSE(health.reasons.empty());
    EXPECT_EQ(health.reasons.front().code, "metadata-lost");
    EXPECT_EQ(metrics().value("refault_ready"), 0);
}

TEST_F(MonitorTest, ADeviceOfWhichFilesAreGoneIsDamaged) {
    create({"a", "b"});
    create_file("/one", 16 << 20);
    const auto directory = top_ + "/" + place_of("/one")["device"].get<std::string>();
    // One segment of several: the device is still there.
    std::filesystem::path segment;
    for (const auto& entry : std::filesystem::directory_iterator(directory))
        if (entry.path().filename().string().starts_with("seg-")) segment = entry.path();
    ASSERT_TRUE(std::filesystem::remove(segment));
    const auto is_said = [&] {
        const auto codes = codes_of(api_->health());
        return std::find(codes.begin(), codes.end(), "device-damaged") != codes.end();
    };
    // The limit only bounds a failing test.
    for (int ms = 0; !is_said() && ms < 60'000; ++ms) ::poll(nullptr, 0, 1);
    EXPECT_TRUE(is_said()) << to_json(api_->health());
    EXPECT_TRUE(api_->health().is_ready);
}

TEST_F(MonitorTest, APlanAndAPulledDeviceAreNoTrouble) {
    create({"a", "b"});
    create_file("/one", 1 << 20);
    post("/v1/pull", {{"devices", {"b"}}, {"dry_run", true}});
    EXPECT_TRUE(api_->health().is_ok());
    post("/v1/pull", {{"devices", {"b"}}});
    // Whoever leaves by request is well, until the end and afterwards.
    for (std::string phase; phase != "safe" && phase != "unproven";) {
        EXPECT_TRUE(api_->health().is_ok()) << to_json(api_->health());
        phase = get("/v1/removals")["removals"][0]["phase"];
        ASSERT_NE(phase, "failed");
    }
    EXPECT_TRUE(api_->health().is_ok()) << to_json(api_->health());
    const auto parsed = metrics();
    EXPECT_TRUE(parsed.families().contains("refault_removal_bytes"));
}

TEST_F(MonitorTest, APoolsNameMayHoldAnything) {
    create({"a"}, "p\"\\\n\xff");
    const auto parsed = metrics();
    const auto uuid = get("/v1/status")["uuid"].get<std::string>();
    EXPECT_EQ(
        parsed.value("refault_pool_info{pool=\"p\\\"\\\\\\n\xef\xbf\xbd\",uuid=\"" + uuid + "\"}"),
        1);
}

}  // namespace
}  // namespace refault::daemon
