// The power goes at every durable write of a pool's life: the pool opens, is sound, has all that
// was acknowledged, and of what was under way the old or the new. What may be on the medium then is
// in disk.h; every row of the table of durable writes is passed.
//
// REFAULT_POWER_CUT=all in the environment looks at every change alone missing and alone there, at
// more random choices, and at many second cuts; it takes long. REFAULT_SEED replays a run.
#include <fstream>

#include "tests/power_cut/cutter.h"
#include "tests/power_cut/workload.h"

namespace refault::power_cut {
namespace {

CutCounts cut(const std::string& name, void (*record)(Recording&)) {
    Recording recording;
    record(recording);
    if (::testing::Test::HasFailure()) return {};
    Thoroughness how;
    const char* wanted = std::getenv("REFAULT_POWER_CUT");
    if (wanted != nullptr && std::string_view(wanted) == "all") how = {SIZE_MAX, 24, 40};
    const auto counts = Cutter(recording, how, store::testing::test_seed()).run();
    std::cout << name << ": the power was cut at " << counts.points << " points, " << counts.images
              << " images were opened, and " << counts.images_again << " after a second cut; "
              << counts.failures << " failed" << std::endl;
    return counts;
}

TEST(PowerCut, Files) {
    cut("files", record_files);
}

TEST(PowerCut, Devices) {
    cut("devices", record_devices);
}

TEST(PowerCut, Log) {
    cut("log", record_log);
}

// No row of the table is left out.
TEST(PowerCut, EveryRowIsPassed) {
    std::set<device::DurableWrite> rows;
    for (const auto record : {record_files, record_devices, record_log}) {
        Recording recording;
        record(recording);
        for (const auto& event : recording.events()) rows.insert(event.call.row);
    }
    for (const auto& info : device::kDurableWrites)
        EXPECT_TRUE(rows.contains(info.row)) << info.name << " is passed by no workload";
    std::ifstream file(REFAULT_SOURCE_DIRECTORY "/docs/format.md");
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    for (const auto& info : device::kDurableWrites)
        EXPECT_NE(text.find("`" + std::string(info.name) + "`"), std::string::npos)
            << info.name << " is not in docs/format.md";
    std::cout << rows.size() << " rows of " << device::kDurableWrites.size() << " were passed"
              << std::endl;
}

}  // namespace
}  // namespace refault::power_cut
