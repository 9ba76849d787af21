// Every step of the failure pipeline fails once, and three times in a row, while programs run: the
// table is failure/fault_points.h. Whatever fails, what has a second copy is not lost, what is lost
// is what was lost anyway, and the pool gets where it would have got without the fault.
#include <filesystem>

#include "tests/fault_points_stage.h"

namespace refault::tests {
namespace {

using failure::FaultPointInfo;

class FaultPointTable : public ::testing::TestWithParam<std::tuple<FaultPointInfo, unsigned>> {};

TEST_P(FaultPointTable, PromisesAreKeptWhenTheStepFails) {
    NEEDS_PROOF();
    const auto& [point, times] = GetParam();
    Stage stage(point, times);
    lead_to(point.point, stage);
    stage.settle();
    stage.check();
}

std::string name_of(const ::testing::TestParamInfo<FaultPointTable::ParamType>& info) {
    const auto& [point, times] = info.param;
    return test_name_of(point) + (times == 1 ? "_once" : "_again_and_again");
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
