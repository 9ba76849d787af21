// The daemon is killed while programs use its memory, and another one takes the pool: programs go
// on with what they have mapped, what was shut stays shut, they come back by themselves, and the
// next daemon can move their memory again.
#include "tests/daemon_death.h"

#include <fcntl.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <random>
#include <thread>

#include "sys/socket.h"
#include "tests/loss_support.h"
#include "tests/mapper_process.h"
#include "tests/mount_support.h"

namespace refault::tests {
namespace {

using Access = Mapper::Access;

TEST_F(DaemonDeath, ProgramsGoOnAndComeBack) {
    NEEDS_PROOF();
    make_file(*pool_, "/one", 1);
    make_file(*pool_, "/two", 2);
    Mapper one(*pool_, "/one", Access::Write), two(*pool_, "/two", Access::Write);
    Mapper reader(*pool_, "/two", Access::Read);
    ASSERT_EQ(one.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(two.store(0, 2, kFileBytes), "ok");
    ASSERT_EQ(two.persist(0, kFileBytes), "ok");
    // Stores are tracked, which nobody is there to answer.
    wait_until_clean("/two");
    pool_->daemon().kill();
    EXPECT_EQ(one.load(0, kFileBytes), "ok 1");
    ASSERT_EQ(one.store(kPage, 3), "ok");
    ASSERT_EQ(two.store(kPage, 4), "ok");
    EXPECT_EQ(two.persist(kPage), "ok");
    EXPECT_EQ(reader.load(kPage), "ok 4");
    start_again();
    wait_until_back();
    EXPECT_EQ(mappings(), 3u);
    EXPECT_EQ(one.load(kPage), "ok 3");
    EXPECT_EQ(reader.load(kPage), "ok 4");
    // Every device is moved once, and one of the file with a copy is lost.
    for (const char* device : {"a", "b"}) move_away_from(device);
    EXPECT_EQ(one.load(0), "ok 1");
    EXPECT_EQ(one.load(kPage), "ok 3");
    EXPECT_EQ(one.store(2 * kPage, 5), "ok");
    EXPECT_EQ(two.persist(0, kFileBytes), "ok");
    EXPECT_EQ(two.load(kPage), "ok 4");
    pool_->expect_sound();
}

// What a program must not be shown before it has said so is not shown by the next daemon either.
TEST_F(DaemonDeath, WhatIsHeldBackStaysHeldBack) {
    NEEDS_PROOF();
    make_file(*pool_, "/two", 2);
    Mapper two(*pool_, "/two", Access::Write);
    ASSERT_EQ(two.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(two.persist(0, kFileBytes), "ok");
    // Not persisted: the copy lacks it.
    ASSERT_EQ(two.store(8192, 2), "ok");
    const auto place = place_of(*pool_, "/two", 8192);
    pool_->post("/v1/devices/" + place.device + "/fail",
                {{"offset", place.offset}, {"length", kPage}});
    const auto held_back = two.load(8192);
    ASSERT_TRUE(held_back.starts_with("sigbus ")) << held_back;
    for (int round = 0; round < 2; ++round) {
        pool_->daemon().kill();
        start_again();
        wait_until_back();
        EXPECT_EQ(two.load(8192), held_back);
        EXPECT_EQ(two.load(0, 8192), "ok 1");
    }
    EXPECT_EQ(two.say("accept 8192 4096"), "ok");
    EXPECT_EQ(two.load(8192), "ok 1");
}

// What took over while a program could not be told is held back from it by the next daemon.
TEST_F(DaemonDeath, WhoWasNotToldYetIsHeldBackByTheNextDaemon) {
    NEEDS_PROOF();
    make_file(*pool_, "/two", 2);
    for (const bool is_whole_device : {false, true}) {
        Mapper two(*pool_, "/two", Access::Write);
        ASSERT_EQ(two.store(0, 1, kFileBytes), "ok");
        ASSERT_EQ(two.persist(0, kFileBytes), "ok");
        // Not persisted: the copy lacks it.
        ASSERT_EQ(two.store(8192, 2), "ok");
        two.stop();
        const auto place = place_of(*pool_, "/two", 8192);
        pool_->post("/v1/devices/" + place.device + "/fail",
                    is_whole_device ? Json{{"all", true}}
                                    : Json{{"offset", place.offset}, {"length", kPage}});
        pool_->daemon().kill();
        start_again();
        two.go_on();
        wait_until_back();
        const auto held_back = two.load(8192);
        EXPECT_TRUE(held_back.starts_with("sigbus ")) << held_back;
        EXPECT_EQ(two.say("accept 0 " + std::to_string(kFileBytes)), "ok");
        EXPECT_EQ(two.load(8192), "ok 1");
        wait_for_resync(*pool_);
    }
}

// The primary goes while there is no daemon.
TEST_F(DaemonDeath, WhatACopyTookOverMeanwhileIsHeldBackFromWriters) {
    NEEDS_PROOF();
    make_file(*pool_, "/two", 2);
    make_file(*pool_, "/back", 2);
    pool_->post("/v1/files/set", {{"path", "/back"}, {"on_loss", "rollback"}});
    Mapper two(*pool_, "/two", Access::Write), reader(*pool_, "/two", Access::Read);
    Mapper back(*pool_, "/back", Access::Write);
    for (auto* mapper : {&two, &back}) {
        ASSERT_EQ(mapper->store(0, 1, kFileBytes), "ok");
        ASSERT_EQ(mapper->persist(0, kFileBytes), "ok");
        ASSERT_EQ(mapper->store(8192, 2), "ok");
    }
    const auto primary = place_of(*pool_, "/two", 0).device;
    const bool is_same = place_of(*pool_, "/back", 0).device == primary;
    pool_->daemon().kill();
    shelf_.take(primary);
    ASSERT_TRUE(pool_->daemon().start_again({}));
    std::vector<std::string> left;
    for (const char* name : {"a", "b", "c", "d"})
        if (name != primary) left.push_back("dir:" + shelf_.path(name));
    pool_->post("/v1/pool/open", {{"devices", left}, {"degraded", true}});
    EXPECT_TRUE(eventually([&] { return mappings() == 3; }));
    const auto held_back = two.load(8192);
    EXPECT_TRUE(held_back.starts_with("sigbus ")) << held_back;
    EXPECT_EQ(reader.load(8192), "ok 1") << "it has stored nothing";
    EXPECT_EQ(back.load(8192), is_same ? "ok 1" : "ok 2");
    EXPECT_EQ(two.say("accept 0 " + std::to_string(kFileBytes)), "ok");
    EXPECT_EQ(two.load(0, kFileBytes), "ok 1");
    EXPECT_TRUE(pool_->get("/v1/lost")["lost"].empty());
}

// What fsync has answered for is on every copy, names and sizes included, whoever dies after that.
class DaemonDeathUnderAMount : public DaemonDeath,
                               public ::testing::WithParamInterface<const char*> {};

TEST_P(DaemonDeathUnderAMount, WhatWasSyncedIsThere) {
    NEEDS_PROOF();
    NEEDS_FUSE();
    make_file(*pool_, "/f", 2);
    {
        Mounted mount(*pool_, GetParam());
        Filer filer(mount / "f", "write");
        ASSERT_EQ(filer.pwrite(0, 1, kFileBytes + 100), "ok");
        ASSERT_EQ(filer.say("map shared"), "ok");
        ASSERT_EQ(filer.store(8192, 2), "ok");
        ASSERT_EQ(std::rename((mount / "f").c_str(), (mount / "g").c_str()), 0);
        ASSERT_EQ(filer.say("fsync"), "ok");
        pool_->daemon().kill();
    }
    start_again();
    const auto device = place_of(*pool_, "/g", 8192).device;
    for (int copies = 2; copies > 0; --copies) {
        Mounted mount(*pool_);
        EXPECT_NE(Filer(mount / "f", "read").greeting(), "ready");
        Filer filer(mount / "g", "read");
        EXPECT_EQ(filer.say("size"), "ok " + std::to_string(kFileBytes + 100));
        EXPECT_EQ(filer.pread(0, 8192), "ok 1");
        EXPECT_EQ(filer.pread(8192), "ok 2");
        EXPECT_EQ(filer.pread(12288, kFileBytes + 100 - 12288), "ok 1");
        if (copies == 2) pool_->post("/v1/devices/" + device + "/fail", {{"all", true}});
    }
    pool_->expect_sound();
}

INSTANTIATE_TEST_SUITE_P(Options, DaemonDeathUnderAMount, ::testing::Values("", "writeback"),
                         [](const auto& tested) {
                             return *tested.param == 0 ? "Plain" : std::string(tested.param);
                         });

// Between the journal and the hole, before the journal, in the middle of the copy ...
class DaemonDeathAt : public DaemonDeath, public ::testing::WithParamInterface<const char*> {};

TEST_P(DaemonDeathAt, WhatWasUnderWayIsFinishedOrUndone) {
    NEEDS_PROOF();
    make_file(*pool_, "/one", 1);
    make_file(*pool_, "/two", 2);
    Mapper one(*pool_, "/one", Access::Write), two(*pool_, "/two", Access::Write);
    ASSERT_EQ(one.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(two.store(0, 2, kFileBytes), "ok");
    ASSERT_EQ(two.persist(0, kFileBytes), "ok");
    for (int round = 0; round < 2; ++round) {
        const auto device = place_of(*pool_, "/one", 0).device;
        pool_->post("/v1/debug/fault-points",
                    {{"name", GetParam()}, {"times", 1}, {"action", "kill"}});
        (void)pool_->control().post("/v1/pull", {{"devices", {device}}});
        EXPECT_TRUE(eventually([&] { return !pool_->control().get("/v1/status"); }));
        pool_->daemon().kill();
        // A store may have to wait for the next daemon, and is not lost.
        one.begin("store 8192 " + std::to_string(10 + round) + " 4096");
        two.begin("store 8192 " + std::to_string(20 + round) + " 4096");
        start_again();
        EXPECT_EQ(one.answer(), "ok");
        EXPECT_EQ(two.answer(), "ok");
        EXPECT_EQ(two.persist(8192), "ok");
        wait_until_back();
        EXPECT_EQ(one.load(8192), "ok " + std::to_string(10 + round));
        EXPECT_EQ(two.load(8192), "ok " + std::to_string(20 + round));
        EXPECT_EQ(one.load(0, 8192), "ok 1");
        EXPECT_EQ(one.load(12288, kFileBytes - 12288), "ok 1");
        EXPECT_EQ(two.load(12288, kFileBytes - 12288), "ok 2");
        pool_->expect_sound();
    }
    // The copies are known to be equal again, and one is enough.
    wait_until_clean("/two");
    const auto device = place_of(*pool_, "/two", 0).device;
    pool_->post("/v1/devices/" + device + "/fail", {{"all", true}});
    EXPECT_EQ(two.load(8192), "ok 21");
    EXPECT_EQ(two.load(12288, kFileBytes - 12288), "ok 2");
}

INSTANTIATE_TEST_SUITE_P(Points, DaemonDeathAt,
                         ::testing::Values("move-fence", "move-copy", "move-journal", "move-punch",
                                           "move-release"),
                         [](const auto& tested) {
                             std::string name(tested.param);
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

// Who has not come back is not moved under his feet, and his memory is nobody else's.
TEST_F(DaemonDeath, WhoIsStoppedIsWaitedFor) {
    NEEDS_PROOF();
    make_file(*pool_, "/one", 1);
    auto one = std::make_unique<Mapper>(*pool_, "/one", Access::Write);
    ASSERT_EQ(one->store(0, 1, kFileBytes), "ok");
    const auto device = place_of(*pool_, "/one", 0).device;
    one->stop();
    pool_->daemon().kill();
    start_again();
    const auto refused = pool_->control().post("/v1/pull", {{"devices", {device}}});
    ASSERT_FALSE(refused);
    const auto health = pool_->get("/v1/status")["health"];
    EXPECT_EQ(health["reasons"][0]["code"], "clients-absent") << health;
    EXPECT_NE(refused.error().message().find("pid " + std::to_string(one->pid())),
              std::string::npos)
        << refused.error().message();
    // Its name goes, and not its bytes.
    pool_->post("/v1/files/remove", {{"path", "/one"}});
    one->go_on();
    EXPECT_EQ(one->load(0, kFileBytes), "ok 1");
    one->kill();
    wait_until_back();
    move_away_from(device);
    pool_->expect_sound();
}

// The file has fewer copies by now, which the program did not learn before its daemon died: what it
// still has mapped as a copy, shut when the daemon died, is none any more.
TEST_F(DaemonDeath, WhatIsNoCopyAnyMoreIsTakenFromWhoComesBack) {
    NEEDS_PROOF();
    constexpr std::uint64_t kSmall = 64 << 10;
    const auto make = [&](const std::string& path, unsigned replicas) {
        pool_->post("/v1/files/create", {{"path", path}, {"mode", 0600}});
        pool_->post("/v1/files/set", {{"path", path}, {"replicas", replicas}});
        put_bytes(*pool_, path, std::string(kSmall, 7));
    };
    // Files of one user that nobody else may open share segments: what one of them gives up does
    // not go with the segment.
    make("/neighbour", 4);
    make("/three", 3);
    Mapper three(*pool_, "/three", Access::Write);
    const auto third = place_of(*pool_, "/three", 0, 2);
    ASSERT_FALSE(third.device.empty());
    three.stop();
    pool_->post("/v1/files/set", {{"path", "/three"}, {"replicas", 2}});
    wait_for_resync(*pool_);
    ASSERT_TRUE(place_of(*pool_, "/three", 0, 2).device.empty());
    pool_->daemon().kill();
    start_again();
    three.go_on();
    wait_until_back();
    EXPECT_EQ(three.store(0, 2, kSmall), "ok");
    EXPECT_EQ(three.persist(0, kSmall), "ok");
    EXPECT_EQ(three.load(0, kSmall), "ok 2");
    std::ifstream maps("/proc/" + std::to_string(three.pid()) + "/maps");
    const std::string mapped(std::istreambuf_iterator<char>(maps), {});
    EXPECT_EQ(mapped.find("/" + third.device + "/seg-"), mapped.npos) << mapped;
    EXPECT_NE(mapped.find("/seg-"), mapped.npos) << mapped;
    pool_->expect_sound();
}

// What programs have mapped from before is kept free of new data until only this daemon's places
// show it. A descriptor is no place.
TEST_F(DaemonDeath, SegmentsAreGivenBackWhenOnlyPlacesOfThisDaemonShowThem) {
    NEEDS_PROOF();
    std::map<std::string, std::string> files;  // one on each of two devices
    for (int i = 0; i < 50 && files.size() < 2; ++i) {
        const auto path = "/f" + std::to_string(i);
        make_file(*pool_, path, 1);
        files.emplace(place_of(*pool_, path, 0).device, path);
    }
    ASSERT_EQ(files.size(), 2u);
    const auto given_back = [&](const std::string& device) {
        const auto list = pool_->get("/v1/events/list");
        return std::any_of(list["events"].begin(), list["events"].end(), [&](const Json& event) {
            return event["kind"] == "segments-given-back" &&
                   event.dump().find("\"" + device + "\"") != std::string::npos;
        });
    };
    const auto held = files.begin()->first, free = files.rbegin()->first;
    Mapper one(*pool_, files[held], Access::Write), other(*pool_, files[free], Access::Write);
    ASSERT_EQ(one.load(0), "ok 0");
    ASSERT_EQ(other.load(0), "ok 0");
    std::vector<base::UniqueFd> descriptors;
    for (const auto& entry : std::filesystem::directory_iterator(shelf_.path(held)))
        if (entry.path().filename().string().starts_with("seg-"))
            descriptors.emplace_back(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    pool_->daemon().kill();
    start_again();
    wait_until_back();
    EXPECT_TRUE(eventually([&] { return given_back(free); }));
    // The devices are looked at in their order, and this one came first.
    EXPECT_FALSE(given_back(held));
    descriptors.clear();
    EXPECT_TRUE(eventually([&] { return given_back(held); }));
}

// A program may choose not to wait for ever: what is shut is SIGBUS then, and all else goes on.
TEST_F(DaemonDeath, WhoDoesNotWaitForEverGetsSigbusWhereItIsShut) {
    NEEDS_PROOF();
    make_file(*pool_, "/one", 1);
    Mapper one(*pool_, "/one", Access::Write), other(*pool_, "/one", Access::Read);
    ASSERT_EQ(one.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(other.load(0, kFileBytes), "ok 1");
    // The file is shut while it is copied, and stays so.
    const auto device = place_of(*pool_, "/one", 0).device;
    pool_->post("/v1/debug/fault-points",
                {{"name", "move-copy"}, {"times", 1}, {"action", "kill"}});
    (void)pool_->control().post("/v1/pull", {{"devices", {device}}});
    EXPECT_TRUE(eventually([&] { return !pool_->control().get("/v1/status"); }));
    pool_->daemon().kill();
    const auto sigbus = std::to_string(RF_ABANDONED_SIGBUS);
    ASSERT_EQ(one.say("abandon 200 " + sigbus), "ok");
    one.begin("store 8192 2 4096");  // waits already when the time is over
    EXPECT_EQ(one.answer(), "sigbus 2 8192 0");
    EXPECT_EQ(one.store(4096, 2), "sigbus 2 4096 0");
    EXPECT_EQ(one.load(8192), "sigbus 2 8192 0");
    // Who waits still loses nothing.
    other.begin("load 0 " + std::to_string(kFileBytes));
    EXPECT_NE(one.say("accept 0 4096"), "ok");
    start_again();
    EXPECT_EQ(other.answer(), "ok 1");
    // Nor does who has lost patience: it has its memory again when there is a daemon, and holds
    // nobody up.
    wait_until_back();
    EXPECT_TRUE(eventually([&] { return one.load(8192) == "ok 1"; })) << one.load(8192);
    EXPECT_EQ(one.store(8192, 2), "ok");
    EXPECT_EQ(other.load(8192), "ok 2");
    EXPECT_EQ(one.say("accept 0 4096"), "ok");
    move_away_from(place_of(*pool_, "/one", 0).device);
    EXPECT_EQ(one.load(8192), "ok 2");
    pool_->expect_sound();
}

// A descriptor of a removed segment that is on its way through a socket is in nobody's table, and
// the daemon that removed it is no more.
TEST_F(DaemonDeath, ADescriptorInFlightKeepsTheNextDaemonFromCallingADeviceSafe) {
    NEEDS_PROOF();
    make_file(*pool_, "/one", 1);
    const auto place = place_of(*pool_, "/one", 0);
    const auto segment = segment_file(*pool_, place);
    auto ends = sys::seqpacket_pair();
    ASSERT_TRUE(ends);
    {
        base::UniqueFd fd(::open(segment.c_str(), O_RDONLY));
        const int sent[] = {fd.get()};
        ASSERT_TRUE(sys::send_message(ends->first.get(), std::vector<std::uint8_t>{1}, sent));
    }
    pool_->post("/v1/files/remove", {{"path", "/one"}});
    EXPECT_TRUE(eventually([&] { return !std::filesystem::exists(segment); }));
    pool_->daemon().kill();
    start_again();
    pool_->pull({place.device});
    const auto amber = pool_->wait_for_phase(place.device, "unproven");
    EXPECT_EQ(amber["proof"].value("hidden_inodes", 0u), 1u) << amber.dump();
    ends->first.reset();
    ends->second.reset();
    pool_->wait_for_phase(place.device, "safe");
}

TEST_F(DaemonDeath, WhatIsUnmappedWhileNoneIsThereIsNotShownToTheNextDaemon) {
    NEEDS_PROOF();
    make_file(*pool_, "/one", 1);
    Mapper one(*pool_, "/one", Access::Write), other(*pool_, "/one", Access::Read);
    ASSERT_EQ(one.store(0, 1), "ok");
    ASSERT_EQ(one.say("abandon 0 " + std::to_string(RF_ABANDONED_WAIT)), "ok");
    pool_->daemon().kill();
    EXPECT_NE(one.say("remap"), "ok");
    start_again();
    wait_until_back();
    // The file that it has open is there again.
    EXPECT_TRUE(eventually([&] { return one.say("remap") == "ok"; }));
    EXPECT_EQ(one.load(0), "ok 1");
    EXPECT_EQ(mappings(), 2u);
    move_away_from(place_of(*pool_, "/one", 0).device);
    EXPECT_EQ(one.load(0), "ok 1");
}

// Writers that check every record, while the daemon is killed at any moment of pulls.
TEST_F(DaemonDeath, AtAnyMomentNoRecordIsLost) {
    NEEDS_PROOF();
    const auto seed = test_seed();
    std::mt19937_64 random(seed);
    Writers writers(*pool_, 3, 8ull << 20);
    for (int round = 0; round < 6; ++round) {
        // So slow that it does not end before the daemon does.
        const auto device = fullest();
        const auto pull = [&] {
            (void)pool_->control().post("/v1/pull",
                                        {{"devices", {device}}, {"rate_bytes_per_s", 2u << 20}});
        };
        pull();
        writers.let_run(random() % 400);
        if (random() % 2 == 0) {
            (void)pool_->control().post("/v1/devices/" + device + "/cancel", Json::object());
            pull();
        }
        pool_->daemon().kill();
        start_again();
        wait_until_back();
        writers.let_run(100);
    }
    writers.finish();
    pool_->expect_sound();
}

}  // namespace
}  // namespace refault::tests
