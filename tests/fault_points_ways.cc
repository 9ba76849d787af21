// The ways that lead to the steps of the table. Where the daemon is killed at the step, it may be
// gone as soon as the point is armed, so from there on they only ask() and look().
#include "tests/fault_points_stage.h"

namespace refault::tests {
namespace {

using base::FileRange;
using failure::FaultPoint;
using Access = Mapper::Access;

void report_poison(Stage& stage, const Place& place) {
    stage.ask("/v1/devices/" + place.device + "/fail",
              {{"offset", place.offset}, {"length", kPage}});
}

void poison_two(Stage& stage) {
    stage.arm();
    for (std::uint64_t page = 5; !stage.is_reached() && page < 9; ++page) {
        stage.wait_until_clean();
        report_poison(stage, place_of(stage.pool(), "/two", page * kPage));
    }
}

// A page fails so often that it is dropped instead of repaired. Between a try that fails and the
// next the program may store into the page, so that it would be held back from the copy.
void wear_out(Stage& stage) {
    stage.pool().post("/v1/files/set", {{"path", "/two"}, {"on_loss", "rollback"}});
    const auto place = place_of(stage.pool(), "/two", 5 * kPage);
    for (int i = 0; i < 3; ++i) {
        if (i == 2) stage.arm();
        report_poison(stage, place);
    }
}

void poison_one(Stage& stage) {
    stage.arm();
    report_poison(stage, place_of(stage.pool(), "/one", 5 * kPage));
    stage.lose("/one", FileRange::of_length(5 * kPage, kPage));
}

void poison_metadata(Stage& stage) {
    const auto place = place_of_metadata(stage.pool());
    stage.arm();
    report_poison(stage, place);
}

// The device goes on which the file of one copy lies, or another.
void yank_one(Stage& stage, const std::string& device) {
    for (const auto& [path, programs] : stage.programs())
        if (path != "/two" && stage.device_of(path) == device)
            stage.lose(path, FileRange(0, kFileBytes));
    stage.arm();
    stage.tear_out(device);
    EXPECT_TRUE(eventually([&] {
        return stage.look("/v1/devices/" + device).value("state", "") == "lost" ||
               stage.is_killed();
    })) << device;
}

void add_copies(Stage& stage) {
    stage.arm();
    stage.ask("/v1/files/set", {{"path", "/two"}, {"replicas", 3}});
}

// A writer dies with stores in the one copy alone.
void leave_copies_apart(Stage& stage) {
    const auto count_apart = [&] {
        const auto status = stage.look("/v1/status");
        return status.contains("losses") ? status["losses"].value("unsynced_files", 0u) : 0u;
    };
    for (int i = 0; i < 4; ++i) {
        const auto before = count_apart();
        const auto path = "/apart" + std::to_string(i);
        make_file(stage.pool(), path, 2);
        Mapper apart(stage.pool(), path, Access::Write);
        EXPECT_EQ(apart.store(0, 3, 8 * kPage), "ok");
        wait_for_resync(stage.pool());
        if (i == 0) stage.arm();
        apart.kill();
        EXPECT_TRUE(eventually([&] {
            // Its end may not have been noticed yet, and nothing be under way.
            if (stage.is_killed()) return true;
            const auto status = stage.look("/v1/resync");
            return !status.value("is_running", true) && status.value("files_left", 1u) == 0 &&
                   count_apart() <= before;
        }));
        if (stage.is_reached()) return;
    }
}

// A region is looked at again after it was stored into and persisted.
void become_clean(Stage& stage) {
    stage.arm();
    EXPECT_EQ(stage.writer("/two").store(0, kStageValue), "ok");
    EXPECT_EQ(stage.writer("/two").persist(0), "ok");
    EXPECT_TRUE(eventually([&] { return stage.is_reached(); }));
    if (!stage.is_killed()) stage.wait_until_clean();
}

void pull_one(Stage& stage) {
    stage.arm();
    for (int i = 0; !stage.is_reached() && i < 4; ++i) {
        stage.pull(stage.device_of("/one"));
        if (!stage.is_killed()) stage.add_device("new" + std::to_string(i));
    }
}

// A device with a file of its own alone. Who has it open is asked to end, and does.
void detach_one(Stage& stage) {
    stage.add_device("e");
    for (int i = 0; i < 50 && stage.device_of(kLeavingFile) != "e"; ++i) {
        const auto path = i == 0 ? kLeavingFile : "/filling" + std::to_string(i);
        make_file(stage.pool(), path, 1);
        if (i == 0 || stage.device_of(path) != "e") continue;
        stage.pool().post("/v1/files/remove", {{"path", kLeavingFile}});
        stage.pool().post("/v1/files/rename", {{"from", path}, {"to", kLeavingFile}});
    }
    EXPECT_EQ(stage.device_of(kLeavingFile), "e");
    stage.add_programs(kLeavingFile);
    stage.arm();
    detach(stage);
    if (!stage.is_killed()) stage.forget_programs(kLeavingFile);
}

}  // namespace

Place place_of_metadata(Pool& pool) {
    const auto devices = pool.get("/v1/devices");
    for (const auto& device : devices["devices"]) {
        if (!device.value("has_metadata", false)) continue;
        const std::string name = device.value("name", "");
        const auto answer = pool.get("/v1/locate?device=" + name + "&offset=0&length=" +
                                     std::to_string(device.value("capacity_bytes", 0ull)));
        for (const auto& owner : answer["owners"])
            if (owner["owner"] == "metadata") return {name, owner.value("device_begin", 0ull)};
    }
    return {};
}

void detach(Stage& stage) {
    for (unsigned tries = 0; tries <= stage.times(); ++tries) {
        stage.ask("/v1/detach", {{"devices", Json::array({"e"})}, {"pool", "elsewhere"}});
        std::string phase;
        EXPECT_TRUE(eventually([&] {
            phase = stage.look("/v1/detach").value("phase", "");
            return phase == "detached" || phase == "failed" || stage.is_killed();
        })) << phase;
        if (phase == "detached" || stage.is_killed()) return;
        EXPECT_EQ(stage.pool().get("/v1/devices/e").value("state", ""), "in-service");
    }
    ADD_FAILURE() << "never detached";
}

// Without a default: a new point needs a way that leads to it.
void lead_to(FaultPoint point, Stage& stage) {
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
            return yank_one(stage, place_of_metadata(stage.pool()).device);
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
            return detach_one(stage);
    }
}

}  // namespace refault::tests
