// Memory that fails without asking: what has a copy goes on, what has none is lost exactly there,
// and who is concerned is told, nobody else.
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <vector>

#include "tests/loss_support.h"

namespace refault::tests {
namespace {

using Access = Mapper::Access;

TEST(Loss, APoisonedPageWithACopyIsRepairedUnderTheProgram) {
    Pool pool(kThree);
    make_file(pool, "/two", 2);
    Mapper mapper(pool, "/two", Access::Write);
    const auto address = mapper.say("address");
    ASSERT_EQ(mapper.store(5 * kPage, 7), "ok");
    ASSERT_EQ(mapper.persist(5 * kPage), "ok");
    Mapper reader(pool, "/two", Access::Read);
    ASSERT_EQ(reader.load(5 * kPage), "ok 7");
    const auto record = poison(pool, place_of(pool, "/two", 5 * kPage));
    EXPECT_EQ(record["parts"][0].value("outcome", ""), "repaired") << record.dump();
    EXPECT_EQ(reader.load(5 * kPage), "ok 7");
    EXPECT_EQ(mapper.say("address"), address);
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty());
    pool.expect_sound();
}

TEST(Loss, APoisonedPageWithoutACopyIsLostAtThatPageAlone) {
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    make_file(pool, "/other", 1);
    Mapper mapper(pool, "/one", Access::Write);
    Mapper bystander(pool, "/other", Access::Write);
    ASSERT_EQ(mapper.store(0, 3, kFileBytes), "ok");
    const auto record = poison(pool, place_of(pool, "/one", 9 * kPage));
    EXPECT_EQ(record["parts"][0].value("outcome", ""), "lost") << record.dump();
    EXPECT_EQ(mapper.load(8 * kPage), "ok 3");
    EXPECT_EQ(mapper.load(10 * kPage), "ok 3");
    EXPECT_EQ(mapper.load(9 * kPage + 100, 1), lost_at(9 * kPage + 100));
    EXPECT_EQ(mapper.store(9 * kPage, 1), lost_at(9 * kPage));
    EXPECT_EQ(mapper.say("try " + std::to_string(9 * kPage)), "lost");
    EXPECT_EQ(mapper.say("syscall " + std::to_string(9 * kPage)), "error 14");
    EXPECT_EQ(bystander.load(0), "ok 0");
    auto read = pool.control().get("/v1/files/data?path=/one&offset=" + std::to_string(9 * kPage) +
                                   "&length=64");
    EXPECT_FALSE(read);
    const auto lost = pool.get("/v1/lost")["lost"];
    ASSERT_EQ(lost.size(), 1u) << lost.dump();
    EXPECT_EQ(lost[0]["paths"][0], "/one");
    EXPECT_EQ(lost[0].value("file_begin", 0ull), 9 * kPage);
    EXPECT_EQ(lost[0].value("file_end", 0ull), 10 * kPage);
    EXPECT_EQ(lost[0]["signalled_pids"], Json::array({mapper.pid()}));
    // Punching clears it, under the program.
    EXPECT_EQ(mapper.say("punch " + std::to_string(9 * kPage) + " 4096"), "ok");
    EXPECT_EQ(mapper.load(9 * kPage), "ok 0");
    EXPECT_EQ(mapper.store(9 * kPage, 4), "ok");
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty());
    pool.expect_sound();
}

// Nobody has it mapped or open any more, by the kernel's word.
bool is_loss_proven(Pool& pool, const std::string& device) {
    const auto answer = pool.get("/v1/failures");
    for (const auto& record : answer["failures"])
        if (record.value("device", "") == device && record["proven_ms"].is_number()) return true;
    return false;
}

TEST(Loss, ALostDeviceIsProvenToBeHeldByNobodyOnceThatIsSo) {
    NEEDS_PROOF();
    Pool pool(kThree);
    make_file(pool, "/two", 2, /*rolls_back=*/true);
    Mapper mapper(pool, "/two", Access::Write);
    ASSERT_EQ(mapper.store(0, 5, kFileBytes), "ok");
    const auto device = place_of(pool, "/two", 0).device;
    mapper.stop();
    yank(pool, device);
    EXPECT_TRUE(is_gone(pool, device));
    EXPECT_FALSE(
        eventually([&] { return is_loss_proven(pool, device); }, std::chrono::milliseconds(1500)))
        << "a program that is stopped maps it still";
    mapper.go_on();
    EXPECT_TRUE(eventually([&] { return is_loss_proven(pool, device); }));
}

TEST(Loss, AYankedDeviceCostsNothingWhereThereIsACopy) {
    Pool pool(kThree);
    make_file(pool, "/two", 2, /*rolls_back=*/true);
    Mapper mapper(pool, "/two", Access::Write);
    Mapper reader(pool, "/two", Access::Read);
    ASSERT_EQ(mapper.store(0, 5, kFileBytes), "ok");
    ASSERT_EQ(mapper.persist(0, kFileBytes), "ok");
    ASSERT_EQ(reader.load(0, kFileBytes), "ok 5");
    const auto address = mapper.say("address");
    const auto device = place_of(pool, "/two", 0).device;
    yank(pool, device);
    // Whoever touches it first finds out; nobody is signalled.
    EXPECT_EQ(reader.load(0, kFileBytes), "ok 5");
    EXPECT_EQ(mapper.load(0, kFileBytes), "ok 5");
    EXPECT_EQ(mapper.store(0, 6, kFileBytes), "ok");
    EXPECT_EQ(reader.load(0, kFileBytes), "ok 6");
    EXPECT_EQ(mapper.say("address"), address);
    EXPECT_TRUE(is_gone(pool, device));
    wait_for_resync(pool);
    EXPECT_NE(place_of(pool, "/two", 0, 1).device, "") << "two copies again";
    EXPECT_NE(place_of(pool, "/two", 0, 1).device, place_of(pool, "/two", 0, 0).device);
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty());
    pool.expect_sound();
}

TEST(Loss, AYankedDeviceLosesWhatHasNoCopyAndTellsWhoTouchesIt) {
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    Mapper mapper(pool, "/one", Access::Write);
    ASSERT_EQ(mapper.store(0, 5, kFileBytes), "ok");
    const auto device = place_of(pool, "/one", 0).device;
    yank(pool, device);
    EXPECT_EQ(mapper.load(3 * kPage), lost_at(3 * kPage));
    EXPECT_TRUE(is_gone(pool, device));
    const auto lost = pool.get("/v1/lost")["lost"];
    ASSERT_EQ(lost.size(), 1u) << lost.dump();
    EXPECT_EQ(lost[0].value("file_end", 0ull), kFileBytes);
    // The pool is up and writable.
    make_file(pool, "/new", 2);
    Mapper second(pool, "/new", Access::Write);
    EXPECT_EQ(second.store(0, 1), "ok");
    EXPECT_EQ(second.persist(0), "ok");
    pool.expect_sound();
}

TEST(Loss, StoresThatWereNotPersistedAreNotQuietlyGone) {
    Pool pool(kThree);
    make_file(pool, "/two", 2);
    Mapper writer(pool, "/two", Access::Write);
    Mapper reader(pool, "/two", Access::Read);
    ASSERT_EQ(writer.store(0, 1, 4 * kPage), "ok");
    ASSERT_EQ(writer.persist(0, 4 * kPage), "ok");
    ASSERT_EQ(writer.store(kPage, 2), "ok");  // not persisted
    const auto device = place_of(pool, "/two", 0).device;
    yank(pool, device);
    EXPECT_EQ(writer.load(kPage), lost_at(kPage));
    EXPECT_EQ(writer.say("try " + std::to_string(kPage)), "stale");
    EXPECT_EQ(writer.persist(kPage), "error 116");
    EXPECT_EQ(reader.load(kPage), "ok 1") << "who only reads is not disturbed";
    EXPECT_EQ(writer.say("accept " + std::to_string(kPage) + " 4096"), "ok");
    EXPECT_EQ(writer.load(kPage), "ok 1");
    EXPECT_EQ(writer.say("remap"), "ok");
    EXPECT_EQ(writer.load(0, 4 * kPage), "ok 1");
    pool.expect_sound();
}

std::uint64_t clean_bytes(Pool& pool, pid_t pid) {
    const auto maps = pool.get("/v1/maps");
    for (const auto& mapping : maps["mappings"])
        if (mapping.value("pid", 0) == pid) return mapping.value("clean_bytes", 0ull);
    return 0;
}

TEST(Loss, OnlyRegionsWithStoresThatWereNotPersistedAreHeldBack) {
    constexpr std::uint64_t kRegion = 2u << 20;
    // All primaries come to lie on the one device that there is.
    Pool pool(std::vector<std::string>{"a=ram:64M"});
    pool.post("/v1/files/create", {{"path", "/two"}, {"mode", 0666}});
    pool.post("/v1/files/resize", {{"path", "/two"}, {"size_bytes", 5 * kRegion}});
    pool.post("/v1/devices", {{"spec", "b=ram:64M"}});
    pool.post("/v1/files/set", {{"path", "/two"}, {"replicas", 2}});
    wait_for_resync(pool);
    Mapper writer(pool, "/two", Access::Write);
    // 0: persisted. 1: only read. 2: stored. 3: persisted, stored again. 4: clean, then stored.
    ASSERT_EQ(writer.store(0, 1), "ok");
    ASSERT_EQ(writer.persist(0), "ok");
    ASSERT_EQ(writer.load(kRegion), "ok 0");
    ASSERT_EQ(writer.store(2 * kRegion, 1), "ok");
    ASSERT_EQ(writer.store(3 * kRegion, 1), "ok");
    ASSERT_EQ(writer.persist(3 * kRegion), "ok");
    ASSERT_TRUE(eventually([&] { return clean_bytes(pool, writer.pid()) == 4 * kRegion; },
                           std::chrono::seconds(8)))
        << pool.get("/v1/maps").dump(1);
    ASSERT_EQ(writer.store(3 * kRegion, 2), "ok");
    ASSERT_EQ(writer.store(4 * kRegion + 7 * kPage, 3), "ok");
    EXPECT_EQ(clean_bytes(pool, writer.pid()), 2 * kRegion);
    pool.post("/v1/devices/a/fail", {{"all", true}});
    EXPECT_EQ(writer.load(0), "ok 1");
    EXPECT_EQ(writer.load(kRegion), "ok 0");
    for (const std::uint64_t region : {2, 3, 4})
        EXPECT_EQ(writer.load(region * kRegion), lost_at(region * kRegion)) << region;
    ASSERT_EQ(writer.say("accept 0 " + std::to_string(5 * kRegion)), "ok");
    EXPECT_EQ(writer.load(2 * kRegion), "ok 0");
    EXPECT_EQ(writer.load(3 * kRegion), "ok 1");
    EXPECT_EQ(writer.load(4 * kRegion), "ok 0");
    pool.expect_sound();
}

TEST(Loss, AProgramWithoutAHandlerDiesOfItAndNobodyElse) {
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    Mapper doomed(pool, "/one", Access::Write);
    Mapper spared(pool, "/one", Access::Write);
    ASSERT_EQ(doomed.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(doomed.say("die"), "ok");
    poison(pool, place_of(pool, "/one", 0));
    EXPECT_EQ(doomed.load(0), "");
    const int status = doomed.wait_for_end();
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS) << status;
    EXPECT_EQ(spared.load(kPage), "ok 1");
}

TEST(Loss, EarlyNoticeReachesWhoHasNotTouchedIt) {
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    Mapper early(pool, "/one", Access::Write, Mapper::Notice::Early);
    Mapper late(pool, "/one", Access::Write);
    ASSERT_EQ(early.store(0, 1, kFileBytes), "ok");
    poison(pool, place_of(pool, "/one", 2 * kPage));
    const auto expected = "ok 1 " + std::to_string(BUS_MCEERR_AO) + ":8192:12";
    EXPECT_TRUE(eventually([&] { return early.say("notices") == expected; }))
        << early.say("notices");
    EXPECT_EQ(late.say("notices"), "ok 0");
}

TEST(Loss, EarlyNoticeComesThroughADescriptorToo) {
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    Mapper mapper(pool, "/one", Access::Write, Mapper::Notice::Descriptor);
    ASSERT_EQ(mapper.store(0, 1, kFileBytes), "ok");
    poison(pool, place_of(pool, "/one", 2 * kPage));
    EXPECT_EQ(mapper.say("read-notice"), "lost 8192 4096");
    EXPECT_EQ(mapper.say("notices"), "ok 0") << "and no signal";
}

// The window: in the record, as events, as histograms.
TEST(Loss, EveryStepOfAFailureIsTimed) {
    NEEDS_PROOF();
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    make_file(pool, "/two", 2, /*rolls_back=*/true);
    Mapper one(pool, "/one", Access::Write), two(pool, "/two", Access::Write);
    ASSERT_EQ(one.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(two.store(0, 2, kFileBytes), "ok");
    ASSERT_EQ(two.persist(0, kFileBytes), "ok");
    poison(pool, place_of(pool, "/one", 0));
    EXPECT_EQ(one.load(0), lost_at(0));
    const auto device = place_of(pool, "/two", 0).device;
    yank(pool, device);
    EXPECT_TRUE(is_gone(pool, device));
    EXPECT_EQ(two.load(0, kFileBytes), "ok 2");
    EXPECT_TRUE(eventually([&] { return is_loss_proven(pool, device); }));
    wait_for_resync(pool);
    const auto answer = pool.get("/v1/failures");
    const auto poisoned = answer["failures"][0], gone = answer["failures"].back();
    EXPECT_GT(poisoned.value("noticed_ns", 0ull), 0u);
    EXPECT_GE(poisoned["unmapped_ms"], 0);
    EXPECT_GE(poisoned["first_signal_ms"], poisoned["unmapped_ms"]);
    EXPECT_GE(poisoned["last_signal_ms"], poisoned["first_signal_ms"]);
    EXPECT_TRUE(poisoned["repaired_ms"].is_null()) << "nothing of it is";
    EXPECT_GE(gone["repaired_ms"], gone["unmapped_ms"]);
    EXPECT_GE(gone["proven_ms"], gone["unmapped_ms"]);
    for (const char* step : {"unmapped", "first_signal", "last_signal", "repaired", "proven"})
        EXPECT_GE(answer["windows"][step].value("count", 0), 1) << step << answer["windows"];
    std::set<std::string> kinds;
    const auto events = pool.get("/v1/events/list");
    for (const auto& event : events["events"]) kinds.insert(event.value("kind", ""));
    for (const char* kind : {"failure-noticed", "failure-unmapped", "process-signalled",
                             "failure-repaired", "device-loss-proven"})
        EXPECT_TRUE(kinds.contains(kind)) << kind;
}

TEST(Loss, APlannedRemovalIsAFailureLikeAnyOther) {
    NEEDS_PROOF();
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    Mapper mapper(pool, "/one", Access::Write);
    ASSERT_EQ(mapper.store(0, 3, kFileBytes), "ok");
    const auto device = place_of(pool, "/one", 0).device;
    pool.post("/v1/devices/" + device + "/fail", {{"all", true}, {"kind", "planned-removal"}});
    pool.wait_for_phase(device, "safe");
    EXPECT_EQ(mapper.load(0, kFileBytes), "ok 3");
    const auto answer = pool.get("/v1/failures");
    EXPECT_EQ(answer["failures"].back().value("kind", ""), "planned-removal");
    EXPECT_TRUE(answer["failures"].back()["proven_ms"].is_number());
}

TEST(Loss, ADeadWritersCopiesAreMadeEqual) {
    Pool pool(kThree);
    make_file(pool, "/two", 2);
    {
        Mapper writer(pool, "/two", Access::Write);
        ASSERT_EQ(writer.store(0, 9, kFileBytes), "ok");
        writer.kill();
    }
    EXPECT_TRUE(eventually([&] {
        const auto events = pool.get("/v1/events/list");
        for (const auto& event : events["events"])
            if (event.value("kind", "") == "copies-made-equal") return true;
        return false;
    }));
    yank(pool, place_of(pool, "/two", 0).device);
    Mapper reader(pool, "/two", Access::Read);
    EXPECT_EQ(reader.load(0, kFileBytes), "ok 9");
    pool.expect_sound();
}

TEST(Loss, APageThatFailsAgainAndAgainIsRetired) {
    Pool pool(kThree);
    make_file(pool, "/two", 2);
    Mapper mapper(pool, "/two", Access::Read);
    const auto place = place_of(pool, "/two", 0);
    for (int i = 0; i < 3; ++i) poison(pool, place);
    const auto failures = pool.get("/v1/failures");
    ASSERT_EQ(failures["retired"].size(), 1u) << failures["retired"].dump();
    EXPECT_EQ(failures["retired"][0].value("device_begin", 1ull), place.offset);
    const auto now = place_of(pool, "/two", 0);
    EXPECT_FALSE(now.device == place.device && now.offset == place.offset);
    EXPECT_EQ(mapper.load(0, kFileBytes), "ok 0");
    wait_for_resync(pool);
    pool.expect_sound();
    if (::geteuid() == 0) {
        pool.pull({place.device});
        pool.wait_for_phase(place.device, "safe");
    }
}

TEST(Loss, CopiesAreAddedAndDroppedUnderARunningProgram) {
    Pool pool(kThree);
    make_file(pool, "/file", 1);
    Writers writers(pool, 2, 8u << 20);
    Mapper mapper(pool, "/file", Access::Write);
    ASSERT_EQ(mapper.store(0, 1, kFileBytes), "ok");
    for (const char* path : {"/file", "/writer0", "/writer1"})
        pool.post("/v1/files/set", {{"path", path}, {"replicas", 3}});
    wait_for_resync(pool);
    EXPECT_NE(place_of(pool, "/file", 0, 2).device, "");
    ASSERT_EQ(mapper.store(0, 2, kFileBytes), "ok");
    ASSERT_EQ(mapper.persist(0, kFileBytes), "ok");
    writers.let_run(1000);
    for (const char* path : {"/file", "/writer0", "/writer1"})
        pool.post("/v1/files/set", {{"path", path}, {"replicas", 2}});
    wait_for_resync(pool);
    EXPECT_EQ(place_of(pool, "/file", 0, 2).device, "");
    const auto device = place_of(pool, "/file", 0).device;
    yank(pool, device);
    EXPECT_TRUE(is_gone(pool, device));
    EXPECT_EQ(mapper.say("remap"), "ok");
    EXPECT_EQ(mapper.load(0, kFileBytes), "ok 2");
}

}  // namespace
}  // namespace refault::tests
