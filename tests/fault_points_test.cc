// Every step of the failure pipeline fails once, and three times in a row, while programs run: the
// table is failure/fault_points.h. Whatever fails, what has a second copy is not lost, what is lost
// is what was lost anyway, and the pool gets where it would have got without the fault.
#include "failure/fault_points.h"

#include <filesystem>

#include "base/range.h"
#include "tests/loss_support.h"

namespace refault::failure {

// For gtest's messages.
static void PrintTo(const FaultPointInfo& point, std::ostream* to) {
    *to << point.name;
}

}  // namespace refault::failure

namespace refault::tests {
namespace {

using base::FileRange;
using failure::FaultPoint;
using failure::FaultPointInfo;
using Access = Mapper::Access;

constexpr unsigned kValue = 7;

// Four devices, a file of two copies and two of one, each mapped by a writer and a reader.
class Stage {
  public:
    Stage(const FaultPointInfo& point, unsigned times) : point_(point), times_(times) {
        std::vector<std::string> devices;
        for (const char* name : {"a", "b", "c", "d"}) {
            std::filesystem::create_directory(directory_.path() + "/" + name);
            devices.push_back(std::string(name) + "=dir:" + directory_.path() + "/" + name +
                              ",size=32M");
        }
        pool_ = std::make_unique<Pool>(devices, std::vector<std::string>{"--fault-points"});
        make_file(*pool_, "/two", 2);
        make_file(*pool_, "/one", 1);
        // With a device of its own, or the losses of one are those of the other.
        for (int i = 0; i < 50 && (other_.empty() || device_of(other_) == device_of("/one")); ++i) {
            other_ = "/other" + std::to_string(i);
            make_file(*pool_, other_, 1);
        }
        for (const auto& path : {std::string("/two"), std::string("/one"), other_}) {
            auto& pair = programs_[path];
            pair.writer = std::make_unique<Mapper>(*pool_, path, Access::Write);
            EXPECT_EQ(pair.writer->store(0, kValue, kFileBytes), "ok");
            EXPECT_EQ(pair.writer->persist(0, kFileBytes), "ok");
            pair.reader = std::make_unique<Mapper>(*pool_, path, Access::Read);
            EXPECT_EQ(pair.reader->load(0, kFileBytes), "ok 7");
            pair.address = pair.writer->say("address");
        }
    }

    Pool& pool() { return *pool_; }
    Mapper& writer(const std::string& path) { return *programs_.at(path).writer; }
    std::string device_of(const std::string& path, unsigned replica = 0) {
        return place_of(*pool_, path, 0, replica).device;
    }

    void arm() {
        pool_->post("/v1/debug/fault-points", {{"name", point_.name}, {"times", times_}});
    }
    bool has_failed() {
        const auto answer = pool_->get("/v1/debug/fault-points");
        for (const auto& point : answer["fault_points"])
            if (point["name"] == point_.name) return point.value("failed", 0u) == times_;
        return false;
    }
    // Everything that was armed has failed, and the pool has got over it.
    void settle() {
        EXPECT_TRUE(eventually([&] { return has_failed(); }, std::chrono::seconds(20)))
            << pool_->get("/v1/debug/fault-points").dump();
        EXPECT_TRUE(eventually([&] {
            wait_for_resync(*pool_);
            return pool_->post("/v1/pool/check", Json::object())["problems"].empty();
        }));
    }
    // Else a loss of the primary holds the writer back from all of the region.
    void wait_until_clean() {
        EXPECT_TRUE(eventually([&] {
            const auto maps = pool_->get("/v1/maps");
            for (const auto& mapping : maps["mappings"])
                if (mapping.value("pid", 0) == writer("/two").pid())
                    return mapping.value("clean_bytes", 0ull) == kFileBytes;
            return false;
        }));
    }

    void lose(const std::string& path, FileRange range) { lost_[path] = range; }

    // Another hand pulls, as often as it takes.
    void pull(const std::string& device) {
        for (unsigned tries = 0; tries <= times_; ++tries) {
            pool_->pull({device});
            std::string phase;
            EXPECT_TRUE(eventually([&] {
                phase = pool_->get("/v1/removals/" + device).value("phase", "");
                return phase == "safe" || phase == "failed";
            })) << phase;
            if (phase == "safe") return;
            EXPECT_EQ(pool_->get("/v1/devices/" + device).value("state", ""), "in-service")
                << "a pull that failed puts the device back";
        }
        ADD_FAILURE() << "it is never safe";
    }

    // The promises: exactly what was to be lost is, everything else is there, where it was.
    void check() {
        for (auto& [path, pair] : programs_) {
            const auto lost = lost_.contains(path) ? lost_.at(path) : FileRange(0, 0);
            for (auto* program : {pair.writer.get(), pair.reader.get()}) {
                if (lost.begin() > 0) {
                    EXPECT_EQ(program->load(0, lost.begin()), "ok 7")
                        << path << " before what is lost";
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
                EXPECT_EQ(pair.writer->store(kFileBytes - kPage, kValue), "ok");
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

  private:
    struct Programs {
        std::unique_ptr<Mapper> writer;
        std::unique_ptr<Mapper> reader;
        std::string address;
    };

    void check_lost() {
        const auto answer = pool_->get("/v1/lost");
        std::uint64_t listed = 0, expected = 0;
        for (const auto& one : answer["lost"]) {
            const auto range =
                FileRange(one.value("file_begin", 0ull), one.value("file_end", 0ull));
            const std::string path = one["paths"][0];
            EXPECT_TRUE(lost_.contains(path) && lost_.at(path).contains(range)) << one.dump();
            listed += range.length();
        }
        for (const auto& [path, range] : lost_) expected += range.length();
        EXPECT_EQ(listed, expected) << answer.dump();
    }

    const FaultPointInfo& point_;
    const unsigned times_;
    TemporaryDirectory directory_;
    std::unique_ptr<Pool> pool_;
    std::string other_;
    std::map<std::string, Programs> programs_;
    std::map<std::string, FileRange> lost_;
};

void poison_two(Stage& stage) {
    stage.arm();
    for (std::uint64_t page = 5; !stage.has_failed() && page < 9; ++page) {
        stage.wait_until_clean();
        (void)poison(stage.pool(), place_of(stage.pool(), "/two", page * kPage));
    }
}

// A page fails so often that it is dropped instead of repaired. Between a try that fails and the
// next the program may store into the page, so that it would be held back from the copy.
void wear_out(Stage& stage) {
    stage.pool().post("/v1/files/set", {{"path", "/two"}, {"on_loss", "rollback"}});
    const auto place = place_of(stage.pool(), "/two", 5 * kPage);
    for (int i = 0; i < 3; ++i) {
        if (i == 2) stage.arm();
        (void)poison(stage.pool(), place);
    }
}

void poison_one(Stage& stage) {
    stage.arm();
    (void)poison(stage.pool(), place_of(stage.pool(), "/one", 5 * kPage));
    stage.lose("/one", FileRange::of_length(5 * kPage, kPage));
}

std::string device_with_metadata(Pool& pool) {
    const auto answer = pool.get("/v1/devices");
    for (const auto& device : answer["devices"])
        if (device.value("has_metadata", false)) return device.value("name", "");
    return "";
}

void poison_metadata(Stage& stage) {
    const auto name = device_with_metadata(stage.pool());
    const auto answer = stage.pool().get("/v1/locate?device=" + name + "&offset=0&length=33554432");
    std::uint64_t at = 0;
    for (const auto& owner : answer["owners"])
        if (owner["owner"] == "metadata") at = owner.value("device_begin", 0ull);
    stage.arm();
    (void)poison(stage.pool(), {name, at});
}

// The device goes on which the file of one copy lies.
void yank_one(Stage& stage, const std::string& device) {
    if (stage.device_of("/one") == device) stage.lose("/one", FileRange(0, kFileBytes));
    stage.arm();
    yank(stage.pool(), device);
    EXPECT_TRUE(is_gone(stage.pool(), device));
}

void add_copies(Stage& stage) {
    stage.arm();
    stage.pool().post("/v1/files/set", {{"path", "/two"}, {"replicas", 3}});
}

// A writer dies with stores in the one copy alone.
void leave_copies_apart(Stage& stage) {
    stage.arm();
    for (int i = 0; !stage.has_failed() && i < 4; ++i) {
        const auto path = "/apart" + std::to_string(i);
        make_file(stage.pool(), path, 2);
        Mapper apart(stage.pool(), path, Access::Write);
        EXPECT_EQ(apart.store(0, 3, 8 * kPage), "ok");
        apart.kill();
        EXPECT_TRUE(eventually([&] {
            const auto status = stage.pool().get("/v1/resync");
            return !status.value("is_running", true) && status.value("files_left", 1u) == 0;
        })) << stage.pool().get("/v1/resync").dump();
    }
}

// A region is looked at again after it was stored into and persisted.
void become_clean(Stage& stage) {
    stage.arm();
    EXPECT_EQ(stage.writer("/two").store(0, kValue), "ok");
    EXPECT_EQ(stage.writer("/two").persist(0), "ok");
    stage.wait_until_clean();
}

void pull_one(Stage& stage) {
    stage.arm();
    for (int i = 0; !stage.has_failed() && i < 4; ++i) {
        stage.pull(stage.device_of("/one"));
        stage.pool().post("/v1/devices", {{"spec", "new" + std::to_string(i) + "=ram:32M"}});
    }
}

void detach(Stage& stage, unsigned times) {
    // A device with files of its own alone, which nobody has open.
    TemporaryDirectory directory;
    stage.pool().post("/v1/devices", {{"spec", "e=dir:" + directory.path() + ",size=32M"}});
    stage.arm();
    for (unsigned tries = 0; tries <= times; ++tries) {
        stage.pool().post("/v1/detach", {{"devices", Json::array({"e"})}, {"pool", "elsewhere"}});
        std::string phase;
        EXPECT_TRUE(eventually([&] {
            phase = stage.pool().get("/v1/detach").value("phase", "");
            return phase == "detached" || phase == "failed";
        })) << phase;
        if (phase == "detached") return;
        EXPECT_EQ(stage.pool().get("/v1/devices/e").value("state", ""), "in-service");
    }
    ADD_FAILURE() << "never detached";
}

// What leads to the step. Without a default: a new point needs a way that leads to it.
void lead_to(FaultPoint point, Stage& stage, unsigned times) {
    switch (point) {
        case FaultPoint::RecoverFence:
        case FaultPoint::RecoverRepair:
        case FaultPoint::RecoverFill:
            return poison_two(stage);
        case FaultPoint::RecoverDrop:
            return wear_out(stage);
        case FaultPoint::RecoverMarkLost:
            return poison_one(stage);
        case FaultPoint::RecoverMetadata:
            return poison_metadata(stage);
        case FaultPoint::LoseMetadata:
            return yank_one(stage, device_with_metadata(stage.pool()));
        case FaultPoint::LoseFence:
        case FaultPoint::LoseSettle:
            return yank_one(stage, stage.device_of("/one"));
        case FaultPoint::MoveFence:
        case FaultPoint::MovePrepare:
        case FaultPoint::MoveCopy:
        case FaultPoint::MoveJournal:
        case FaultPoint::MovePunch:
        case FaultPoint::MoveRelease:
        case FaultPoint::PullMetadata:
        case FaultPoint::PullProve:
        case FaultPoint::PullForget:
            return pull_one(stage);
        case FaultPoint::ResyncReserve:
            return add_copies(stage);
        case FaultPoint::ResyncMark:
        case FaultPoint::ResyncCompare:
        case FaultPoint::ResyncWrite:
            return leave_copies_apart(stage);
        case FaultPoint::TrackFence:
        case FaultPoint::TrackProtect:
            return become_clean(stage);
        case FaultPoint::DetachMetadata:
        case FaultPoint::DetachProve:
        case FaultPoint::DetachWrite:
            return detach(stage, times);
    }
}

class FaultPointTable : public ::testing::TestWithParam<std::tuple<FaultPointInfo, unsigned>> {};

TEST_P(FaultPointTable, PromisesAreKeptWhenTheStepFails) {
    NEEDS_PROOF();
    const auto& [point, times] = GetParam();
    Stage stage(point, times);
    lead_to(point.point, stage, times);
    stage.settle();
    stage.check();
}

std::string name_of(const ::testing::TestParamInfo<FaultPointTable::ParamType>& info) {
    const auto& [point, times] = info.param;
    std::string name(point.name);
    std::replace(name.begin(), name.end(), '-', '_');
    return name + (times == 1 ? "_once" : "_again_and_again");
}

INSTANTIATE_TEST_SUITE_P(Table, FaultPointTable,
                         ::testing::Combine(::testing::ValuesIn(failure::kFaultPoints),
                                            ::testing::Values(1u, 3u)),
                         name_of);

// A daemon that dies between the hole and the bytes that are to fill it leaves no zeros that pass
// for the file's.
TEST(FaultPoints, AHoleIsNotLeftBehindByADaemonThatDies) {
    for (const unsigned replica : {0u, 1u}) {
        TemporaryDirectory directory;
        std::vector<std::string> devices, places;
        for (const char* name : {"a", "b", "c"}) {
            const auto path = directory.path() + "/" + name;
            std::filesystem::create_directory(path);
            devices.push_back(std::string(name) + "=dir:" + path + ",size=32M");
            places.push_back("dir:" + path);
        }
        {
            Pool pool(devices, {"--fault-points"});
            make_file(pool, "/two", 2);
            put_bytes(pool, "/two", std::string(kFileBytes, 'v'));
            const auto place = place_of(pool, "/two", 4 * kPage, replica);
            pool.post("/v1/debug/fault-points",
                      {{"name", "recover-fill"}, {"times", 1}, {"action", "kill"}});
            EXPECT_FALSE(pool.control().post("/v1/devices/" + place.device + "/fail",
                                             {{"offset", place.offset}, {"length", kPage}}));
        }
        auto pool = Pool::open(places);
        wait_for_resync(pool);
        auto bytes = pool.control().get_bytes("/v1/files/data?path=/two&offset=0&length=1048576");
        ASSERT_TRUE(bytes) << bytes.error().message();
        EXPECT_TRUE(*bytes == std::string(kFileBytes, 'v'));
        EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty());
        pool.expect_sound();
        // And so does each copy alone.
        const auto primary = place_of(pool, "/two", 4 * kPage).device;
        pool.post("/v1/devices/" + primary + "/fail", {{"all", true}});
        bytes = pool.control().get_bytes("/v1/files/data?path=/two&offset=0&length=1048576");
        ASSERT_TRUE(bytes) << bytes.error().message();
        EXPECT_TRUE(*bytes == std::string(kFileBytes, 'v'));
    }
}

TEST(FaultPoints, ADaemonThatWasNotAskedForThemHasNone) {
    Pool pool({"a=ram:64M"});
    EXPECT_FALSE(pool.control().get("/v1/debug/fault-points"));
    EXPECT_FALSE(
        pool.control().post("/v1/debug/fault-points", {{"name", "move-copy"}, {"times", 1}}));
}

}  // namespace
}  // namespace refault::tests
