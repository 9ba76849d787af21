// At every step of the failure pipeline the daemon is killed, while programs load and store.
// Another one takes the pool: the programs come back by themselves, at the same addresses;
// everything that was acknowledged is there; what was under way is finished or undone, and can be
// done; nothing is left over on the devices. The steps are those of failure/fault_points.h, each of
// them.
#include <filesystem>

#include "tests/daemon_death.h"
#include "tests/fault_points_stage.h"

namespace refault::tests {
namespace {

using failure::FaultPoint;
using failure::FaultPointInfo;

// What is touched while no daemon is there. The ways let this page fail.
constexpr std::uint64_t kTouched = 5 * kPage;
constexpr unsigned kMeanwhile = 9;

class KillAt : public ::testing::TestWithParam<FaultPointInfo> {
  protected:
    KillAt() : stage_(GetParam(), 1, Stage::Action::Kill), primary_(stage_.device_of("/two")) {}
    Pool& pool() { return stage_.pool(); }

    // Nobody serves the programs now. What is shut has to wait for the next daemon.
    void begin_to_touch() {
        for (auto& [path, programs] : stage_.programs()) {
            programs.reader->begin("load 0 " + std::to_string(kTouched));
            programs.writer->begin("store " + std::to_string(kTouched) + " " +
                                   std::to_string(kMeanwhile) + " " + std::to_string(kPage));
        }
    }
    // A store that was waiting is not lost, unless its memory is.
    void end_touching() {
        for (auto& [path, programs] : stage_.programs()) {
            auto& writer = *programs.writer;
            const auto loaded = programs.reader->answer();
            auto stored = writer.answer();
            if (is_torn_out() && !stage_.lost_of(path).empty()) {
                EXPECT_EQ(loaded, lost_at(0)) << path;
                EXPECT_EQ(stored, lost_at(kTouched)) << path;
                continue;
            }
            EXPECT_EQ(loaded, "ok 7") << path;
            if (path == "/two" && has_copy_taken_over()) {
                // Which regions were clean only the daemon knew that has died, so who stores is
                // held back, whatever was persisted (docs/architecture.md, "When the daemon dies").
                EXPECT_TRUE(stored.starts_with("sigbus ")) << stored;
                EXPECT_EQ(writer.say("accept 0 " + std::to_string(kFileBytes)), "ok");
                stored = writer.store(kTouched, kMeanwhile);
            }
            EXPECT_EQ(stored, "ok") << path;
            EXPECT_EQ(writer.load(kTouched), "ok " + std::to_string(kMeanwhile)) << path;
            EXPECT_EQ(writer.store(kTouched, kStageValue), "ok") << path;
            EXPECT_EQ(writer.persist(kTouched), "ok") << path;
        }
    }
    // Who had the file open that was to leave with its device.
    static bool is_asked_to_end() {
        const auto point = GetParam().point;
        return point == FaultPoint::DetachProve || point == FaultPoint::DetachWrite;
    }
    bool is_torn_out() const { return !stage_.torn_out().empty(); }
    // While the pool was opened: its primary was missing, or had a hole of a repair.
    bool has_copy_taken_over() const {
        return stage_.torn_out().contains(primary_) || GetParam().point == FaultPoint::RecoverFill;
    }

    // What the daemon was at: the next one has finished it, or has undone it and does it when it is
    // asked again. Without a default: a new point needs an end.
    void finish() {
        switch (GetParam().point) {
            case FaultPoint::RecoverFence:
            case FaultPoint::RecoverRepair:
            case FaultPoint::RecoverFill:
                stage_.wait_until_clean();
                return expect_recovered(place_of(pool(), "/two", kTouched), "repaired");
            case FaultPoint::RecoverDrop:
                // How often the page has failed is counted anew.
                return expect_recovered(place_of(pool(), "/two", kTouched), "repaired");
            case FaultPoint::RecoverMarkLost:
                EXPECT_TRUE(pool().get("/v1/lost")["lost"].empty());
                EXPECT_EQ(stage_.writer("/one").load(0, kFileBytes), "ok 7");
                return expect_recovered(place_of(pool(), "/one", kTouched), "lost");
            case FaultPoint::RecoverMetadata:
                return expect_recovered(place_of_metadata(pool()), "metadata-rewritten");
            case FaultPoint::LoseMetadata:
            case FaultPoint::LoseFence:
            case FaultPoint::LoseSettle:
                return;  // what is lost, the promises say
            case FaultPoint::MoveFence:
            case FaultPoint::MovePrepare:
            case FaultPoint::MoveCopy:
            case FaultPoint::MoveJournal:
            case FaultPoint::MovePunch:
            case FaultPoint::MoveRelease:
            case FaultPoint::PullMetadata:
            case FaultPoint::PullProve:
            case FaultPoint::PullForget:
                return pull_again();
            case FaultPoint::ResyncReserve:
                wait_for_resync(pool());
                EXPECT_EQ((std::set{stage_.device_of("/two", 0), stage_.device_of("/two", 1),
                                    stage_.device_of("/two", 2), std::string()})
                              .size(),
                          4u);
                return;
            case FaultPoint::ResyncMark:
            case FaultPoint::ResyncCompare:
            case FaultPoint::ResyncWrite:
                return;  // that copies are equal is seen below
            case FaultPoint::TrackFence:
            case FaultPoint::TrackProtect:
                return stage_.wait_until_clean();
            case FaultPoint::DetachMetadata:
            case FaultPoint::DetachProve:
            case FaultPoint::DetachWrite:
                return detach_again();
        }
    }
    void expect_recovered(const Place& place, const std::string& outcome) {
        const auto record = poison(pool(), place);
        ASSERT_EQ(record["parts"].size(), 1u) << record.dump();
        EXPECT_EQ(record["parts"][0].value("outcome", ""), outcome) << record.dump();
    }
    void pull_again() {
        const auto device = stage_.last_pulled();
        pool().pull({device});
        Json removal;
        EXPECT_TRUE(eventually([&] {
            removal = pool().get("/v1/removals/" + device);
            const auto phase = removal.value("phase", "");
            return phase == "safe" || phase == "failed";
        })) << removal.dump();
        const auto& proof = removal["proof"];
        EXPECT_TRUE(proof["holders"].empty()) << proof.dump();
        EXPECT_EQ(removal.value("phase", ""), "safe") << removal.dump();
        EXPECT_TRUE(proof.value("is_proven", false)) << proof.dump();
        EXPECT_EQ(pool().power(device), "off");
        for (auto& [path, programs] : stage_.programs())
            for (auto* program : {programs.writer.get(), programs.reader.get()})
                EXPECT_TRUE(maps_lines_of(program->pid(), stage_.directory_of(device)).empty());
    }
    void detach_again() {
        const auto bytes = std::string(kFileBytes, static_cast<char>(kStageValue));
        EXPECT_TRUE(read(pool(), kLeavingFile) == bytes) << "it is here as before";
        detach(stage_);
        stage_.forget_programs(kLeavingFile);
        const auto proof = pool().get("/v1/detach")["proof"];
        EXPECT_TRUE(proof["holders"].empty()) << proof.dump();
        EXPECT_EQ(pool().power("e"), "off");
        EXPECT_EQ(read(pool(), kLeavingFile), "");
        auto elsewhere = Pool::open({"dir:" + stage_.directory_of("e")});
        EXPECT_TRUE(read(elsewhere, kLeavingFile) == bytes);
        elsewhere.expect_sound();
    }
    static std::string read(Pool& from, const std::string& path) {
        auto bytes = from.control().get_bytes("/v1/files/data?path=" + path +
                                              "&offset=0&length=" + std::to_string(kFileBytes));
        return bytes ? *bytes : "";
    }

    void expect_all_in_service() {
        const auto answer = pool().get("/v1/devices");
        for (const auto& device : answer["devices"]) {
            if (stage_.torn_out().contains(device.value("name", ""))) {
                EXPECT_EQ(device.value("state", ""), "lost") << device.dump();
                continue;
            }
            EXPECT_EQ(device.value("state", ""), "in-service") << device.dump();
            EXPECT_EQ(device["slot"].value("power", ""), "on") << device.dump();
        }
    }

    // Every segment file belongs to a file of the pool or to its metadata.
    void expect_nothing_left_over() {
        std::string stray;
        EXPECT_TRUE(eventually(
            [&] {
                stray = find_stray();
                return stray.empty();
            },
            std::chrono::seconds(10)))
            << stray << " belongs to nobody";
    }
    std::string find_stray() {
        const auto answer = pool().get("/v1/devices");
        for (const auto& device : answer["devices"]) {
            const std::string name = device.value("name", "");
            // What has left with its files is looked at by another pool.
            if (stage_.torn_out().contains(name) || name == "e") continue;
            // Drops those that somebody had for a moment.
            if (device.value("state", "") == "in-service")
                pool().post("/v1/devices/" + name + "/prove", Json::object());
            for (const auto& entry :
                 std::filesystem::directory_iterator(stage_.directory_of(name))) {
                const auto file = entry.path().filename().string();
                if (!file.starts_with("seg-")) continue;
                if (file.find(".removed-") != file.npos) return entry.path();
                if (device.value("state", "") != "in-service") return entry.path();
                const auto bytes = device.value("segment_bytes", 0ull);
                const auto owners = pool().get("/v1/locate?device=" + name + "&offset=" +
                                               std::to_string(std::stoull(file.substr(4)) * bytes) +
                                               "&length=" + std::to_string(bytes))["owners"];
                if (owners.empty()) return entry.path();
            }
        }
        return "";
    }

    // All copies of everything, byte by byte.
    void expect_equal_copies() {
        pool().post("/v1/scrub", Json::object());
        EXPECT_TRUE(eventually([&] { return !pool().get("/v1/scrub").value("is_running", true); }));
        const auto last = pool().get("/v1/scrub")["last"];
        EXPECT_EQ(last.value("differing_bytes", 1ull), 0u) << last.dump();
        EXPECT_EQ(last.value("errors", 1ull), 0u) << last.dump();
    }

    Stage stage_;
    const std::string primary_;  // the device of what programs have mapped of /two
};

bool tears_out(FaultPoint point) {
    return point == FaultPoint::LoseMetadata || point == FaultPoint::LoseFence ||
           point == FaultPoint::LoseSettle;
}

TEST_P(KillAt, ProgramsComeBackAndWhatWasUnderWayIsFinishedOrUndone) {
    NEEDS_PROOF();
    // They never stop, and check every record. A device that is torn out is SIGBUS for them, which
    // they count as a failure.
    std::unique_ptr<Writers> writers;
    if (!tears_out(GetParam().point)) writers = std::make_unique<Writers>(pool(), 2, 2ull << 20);
    lead_to(GetParam().point, stage_);
    ASSERT_TRUE(eventually([&] { return stage_.is_killed(); }, std::chrono::seconds(20)))
        << "the step was not reached";
    if (is_asked_to_end()) stage_.forget_programs(kLeavingFile);
    begin_to_touch();
    stage_.start_again();
    // The copy has taken over, and the next daemon dies as well before it has told anybody.
    if (GetParam().point == FaultPoint::RecoverFill) stage_.start_again();
    ASSERT_FALSE(HasFatalFailure());
    end_touching();
    EXPECT_TRUE(are_clients_back(pool()));
    expect_all_in_service();
    if (writers) writers->let_run(50);
    finish();
    stage_.settle();
    stage_.check();
    expect_equal_copies();
    expect_nothing_left_over();
    if (writers) writers->finish();
}

INSTANTIATE_TEST_SUITE_P(Table, KillAt, ::testing::ValuesIn(failure::kFaultPoints),
                         [](const auto& tested) { return test_name_of(tested.param); });

}  // namespace
}  // namespace refault::tests
