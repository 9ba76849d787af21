// The pool and its programs, and what must be true of them.
#include "tests/fault_points_stage.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>

namespace refault::tests {

using base::FileRange;
using failure::FaultPointInfo;
using Access = Mapper::Access;

std::string test_name_of(const FaultPointInfo& point) {
    std::string name(point.name);
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
}

Stage::Stage(const FaultPointInfo& point, unsigned times, Action action)
    : point_(point), times_(times), action_(action) {
    std::vector<std::string> specs;
    for (const char* name : {"a", "b", "c", "d"}) {
        std::filesystem::create_directory(directory_of(name));
        specs.push_back(std::string(name) + "=dir:" + directory_of(name) + ",size=32M");
        devices_.push_back(name);
    }
    pool_ = std::make_unique<Pool>(specs, std::vector<std::string>{"--fault-points"});
    make_file(*pool_, "/two", 2);
    make_file(*pool_, "/one", 1);
    // With a device of its own, or the losses of one are those of the other.
    std::string other;
    for (int i = 0; i < 50 && (other.empty() || device_of(other) == device_of("/one")); ++i) {
        other = "/other" + std::to_string(i);
        make_file(*pool_, other, 1);
    }
    for (const auto& path : {std::string("/two"), std::string("/one"), other}) add_programs(path);
}

void Stage::add_programs(const std::string& path) {
    auto& pair = programs_[path];
    pair.writer = std::make_unique<Mapper>(*pool_, path, Access::Write);
    EXPECT_EQ(pair.writer->store(0, kStageValue, kFileBytes), "ok");
    EXPECT_EQ(pair.writer->persist(0, kFileBytes), "ok");
    pair.reader = std::make_unique<Mapper>(*pool_, path, Access::Read);
    EXPECT_EQ(pair.reader->load(0, kFileBytes), "ok 7");
    pair.address = pair.writer->say("address");
}

std::string Stage::directory_of(const std::string& device) const {
    return directory_.path() + "/" + device;
}

void Stage::add_device(const std::string& name) {
    std::filesystem::create_directory(directory_of(name));
    pool_->post("/v1/devices", {{"spec", name + "=dir:" + directory_of(name) + ",size=32M"}});
    devices_.push_back(name);
}

void Stage::tear_out(const std::string& device) {
    yank(*pool_, device);
    torn_out_.insert(device);
}

void Stage::arm() {
    pool_->post("/v1/debug/fault-points", {{"name", point_.name},
                                           {"times", times_},
                                           {"action", action_ == Action::Kill ? "kill" : "fail"}});
}

bool Stage::has_failed() {
    const auto answer = pool_->get("/v1/debug/fault-points");
    for (const auto& point : answer["fault_points"])
        if (point["name"] == point_.name) return point.value("failed", 0u) == times_;
    return false;
}

bool Stage::is_killed() const {
    siginfo_t info{};
    const auto pid = static_cast<id_t>(pool_->daemon().pid());
    return ::waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_code == CLD_KILLED && info.si_status == SIGKILL;
}

bool Stage::is_reached() {
    return action_ == Action::Kill ? is_killed() : has_failed();
}

Json Stage::ask(const std::string& target, const Json& body) {
    auto answer = pool_->control().post(target, body);
    if (answer) return *answer;
    EXPECT_TRUE(action_ == Action::Kill && eventually([&] { return is_killed(); }))
        << target << ": " << answer.error().message();
    return Json::object();
}

Json Stage::look(const std::string& target) {
    auto answer = pool_->control().get(target);
    if (answer) return *answer;
    EXPECT_TRUE(action_ == Action::Kill && eventually([&] { return is_killed(); }))
        << target << ": " << answer.error().message();
    return Json::object();
}

void Stage::start_again() {
    pool_->daemon().kill();
    const auto started = pool_->daemon().start_again({"--fault-points"});
    ASSERT_TRUE(started) << started.error().message();
    std::vector<std::string> left;
    for (const auto& name : devices_)
        if (!torn_out_.contains(name)) left.push_back("dir:" + directory_of(name));
    pool_->post("/v1/pool/open", {{"devices", left}, {"degraded", !torn_out_.empty()}});
}

void Stage::settle() {
    if (action_ == Action::Fail) {
        EXPECT_TRUE(eventually([&] { return has_failed(); }, std::chrono::seconds(20)))
            << pool_->get("/v1/debug/fault-points").dump();
    }
    EXPECT_TRUE(eventually([&] {
        wait_for_resync(*pool_);
        return pool_->post("/v1/pool/check", Json::object())["problems"].empty();
    }));
}

void Stage::wait_until_clean() {
    EXPECT_TRUE(eventually([&] {
        const auto maps = pool_->get("/v1/maps");
        for (const auto& mapping : maps["mappings"])
            if (mapping.value("pid", 0) == writer("/two").pid())
                return mapping.value("clean_bytes", 0ull) == kFileBytes;
        return false;
    }));
}

void Stage::pull(const std::string& device) {
    last_pulled_ = device;
    for (unsigned tries = 0; tries <= times_; ++tries) {
        ask("/v1/pull", {{"devices", Json::array({device})}});
        std::string phase;
        EXPECT_TRUE(eventually([&] {
            phase = look("/v1/removals/" + device).value("phase", "");
            return phase == "safe" || phase == "failed" || is_killed();
        })) << phase;
        if (phase == "safe" || is_killed()) return;
        EXPECT_EQ(pool_->get("/v1/devices/" + device).value("state", ""), "in-service")
            << "a pull that failed puts the device back";
    }
    ADD_FAILURE() << "it is never safe";
}

void Stage::check() {
    for (auto& [path, pair] : programs_) {
        const auto lost = lost_of(path);
        for (auto* program : {pair.writer.get(), pair.reader.get()}) {
            if (lost.begin() > 0) {
                EXPECT_EQ(program->load(0, lost.begin()), "ok 7") << path << " before what is lost";
            }
            if (lost.end() < kFileBytes) {
                EXPECT_EQ(program->load(lost.end(), kFileBytes - lost.end()), "ok 7")
                    << path << " behind what is lost";
            }
            if (!lost.empty()) {
                EXPECT_EQ(program->load(lost.begin(), 1), lost_at(lost.begin())) << path;
            }
            EXPECT_FALSE(program->has_ended());
        }
        EXPECT_EQ(pair.writer->say("address"), pair.address);
        // Stores and persists go on.
        if (lost.end() < kFileBytes) {
            EXPECT_EQ(pair.writer->store(kFileBytes - kPage, kStageValue), "ok");
            EXPECT_EQ(pair.writer->persist(kFileBytes - kPage), "ok") << path;
        }
    }
    check_lost();
    const auto primary = device_of("/two"), copy = device_of("/two", 1);
    EXPECT_NE(primary, "");
    EXPECT_NE(copy, "") << pool_->get("/v1/resync").dump();
    EXPECT_NE(primary, copy);
    pool_->expect_sound();
}

void Stage::check_lost() {
    const auto answer = pool_->get("/v1/lost");
    std::uint64_t listed = 0, expected = 0;
    for (const auto& one : answer["lost"]) {
        const auto range = FileRange(one.value("file_begin", 0ull), one.value("file_end", 0ull));
        const std::string path = one["paths"][0];
        EXPECT_TRUE(lost_.contains(path) && lost_.at(path).contains(range)) << one.dump();
        listed += range.length();
    }
    for (const auto& [path, range] : lost_) expected += range.length();
    EXPECT_EQ(listed, expected) << answer.dump();
}

}  // namespace refault::tests
