// What is left after a loss: what is mended, cut off, grown or persisted then, and who was told.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/loss_support.h"

namespace refault::tests {
namespace {

using Access = Mapper::Access;

bool has_mapped_all(Pool& pool) {
    const auto maps = pool.get("/v1/maps")["mappings"];
    return !maps.empty() && std::all_of(maps.begin(), maps.end(), [](const Json& one) {
        return one.value("stale_bytes", 1u) == 0;
    });
}

std::uint64_t times_failed(Pool& pool, const std::string& point) {
    const auto answer = pool.get("/v1/debug/fault-points");
    for (const auto& one : answer["fault_points"])
        if (one.value("name", "") == point) return one.value("failed", 0ull);
    return 0;
}

TEST(Loss, NothingIsPersistedWhereNothingIsLeft) {
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    Mapper mapper(pool, "/one", Access::Write);
    ASSERT_EQ(mapper.persist(0, kFileBytes), "ok");
    poison(pool, place_of(pool, "/one", 4 * kPage));
    EXPECT_EQ(mapper.load(4 * kPage), lost_at(4 * kPage));
    EXPECT_EQ(mapper.persist(0, kFileBytes), "error 5");
    EXPECT_EQ(mapper.persist(5 * kPage), "ok");
    overwrite(pool, "/one", 4 * kPage, 3);
    EXPECT_EQ(mapper.load(4 * kPage), "ok 3");
    EXPECT_EQ(mapper.persist(0, kFileBytes), "ok");
}

TEST(Loss, WhoWasToldIsSaidOfEachRangeByItself) {
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    const auto device = place_of(pool, "/one", 0).device;
    for (int i = 0; i < 20; ++i) {
        make_file(pool, "/other", 1);
        if (place_of(pool, "/other", 0).device == device) break;
        pool.post("/v1/files/rename",
                  {{"from", "/other"}, {"to", "/elsewhere" + std::to_string(i)}});
    }
    ASSERT_EQ(place_of(pool, "/other", 0).device, device);
    Mapper mapper(pool, "/one", Access::Read);
    yank(pool, device);
    EXPECT_EQ(mapper.load(0), lost_at(0));
    EXPECT_TRUE(is_gone(pool, device));
    const auto lost = pool.get("/v1/lost")["lost"];
    EXPECT_GE(lost.size(), 2u) << lost.dump();
    for (const auto& one : lost)
        EXPECT_EQ(one["signalled_pids"],
                  one["paths"][0] == "/one" ? Json::array({mapper.pid()}) : Json::array())
            << lost.dump();
    // What is mended and lost again has been told to nobody.
    overwrite(pool, "/one", 0, 1);
    poison(pool, place_of(pool, "/one", 0));
    const auto now = pool.get("/v1/lost");
    for (const auto& one : now["lost"])
        if (one["paths"][0] == "/one" && one.value("file_begin", 1ull) == 0) {
            EXPECT_EQ(one["signalled_pids"], Json::array()) << one.dump();
        }
}

TEST(Loss, WhatIsCutOffIsNotLostAnyMore) {
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    Mapper mapper(pool, "/one", Access::Write);
    const auto device = place_of(pool, "/one", 0).device;
    yank(pool, device);
    EXPECT_TRUE(is_gone(pool, device));
    pool.post("/v1/files/resize", {{"path", "/one"}, {"size_bytes", 0}});
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty());
    pool.post("/v1/files/resize", {{"path", "/one"}, {"size_bytes", kFileBytes}});
    EXPECT_EQ(mapper.load(0, kFileBytes), "ok 0");
    EXPECT_EQ(mapper.store(0, 1, kFileBytes), "ok");
    pool.expect_sound();
}

TEST(Loss, WhatIsMendedGetsItsCopiesAgain) {
    Pool pool(kThree);
    make_file(pool, "/file", 1);
    const auto device = place_of(pool, "/file", 0).device;
    yank(pool, device);
    EXPECT_TRUE(is_gone(pool, device));
    pool.post("/v1/files/set", {{"path", "/file"}, {"replicas", 2}});
    wait_for_resync(pool);
    overwrite(pool, "/file", 3 * kPage, 7);
    EXPECT_TRUE(eventually([&] { return !place_of(pool, "/file", 3 * kPage, 1).device.empty(); }));
    EXPECT_NE(place_of(pool, "/file", 3 * kPage, 1).device,
              place_of(pool, "/file", 3 * kPage, 0).device);
}

TEST(Loss, WhatWasLostInPiecesIsMendedAtOnce) {
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M", "d=ram:64M"});
    make_file(pool, "/one", 1);
    for (int i = 0; i < 2; ++i) {
        const auto device = place_of(pool, "/one", 9 * kPage).device;
        yank(pool, device);
        EXPECT_TRUE(is_gone(pool, device));
        if (i == 0) overwrite(pool, "/one", 9 * kPage, 1);
    }
    ASSERT_EQ(pool.get("/v1/lost")["lost"].size(), 3u);
    // All of it finds room in one new segment.
    pool.post("/v1/files/punch", {{"path", "/one"}, {"offset", 0}, {"length", kFileBytes}});
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty());
    pool.expect_sound();
}

TEST(Loss, WhatIsNotLostGetsCopiesBesideWhatIs) {
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    // Bad memory still lies under the lost part, and is no copy of the rest.
    poison(pool, place_of(pool, "/one", kPage), kFileBytes - kPage);
    pool.post("/v1/files/set", {{"path", "/one"}, {"replicas", 2}});
    EXPECT_TRUE(eventually([&] { return !place_of(pool, "/one", 0, 1).device.empty(); },
                           std::chrono::seconds(20)));
}

// The place of a segment whose file somebody has removed is not given out again.
TEST(Loss, WhatIsMendedDoesNotGoIntoASegmentThatIsGone) {
    Pool pool(kThree);
    make_file(pool, "/one", 1);
    Mapper mapper(pool, "/one", Access::Write);
    for (int i = 0; i < 2 && !::testing::Test::HasFailure(); ++i) {
        const auto place = place_of(pool, "/one", 0);
        const auto file = segment_file(pool, place);
        ASSERT_EQ(::truncate(file.c_str(), 0), 0);
        ASSERT_EQ(::unlink(file.c_str()), 0);
        EXPECT_TRUE(eventually([&] { return !pool.get("/v1/lost")["lost"].empty(); }));
        pool.post("/v1/files/punch", {{"path", "/one"}, {"offset", 0}, {"length", kFileBytes}});
        EXPECT_EQ(mapper.load(0, kFileBytes), "ok 0");
        EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty());
    }
}

// Many files in one segment that somebody cuts: each goes on from its other copy, and what was cut
// off does not come back as zeros while the others are still being recovered.
TEST(Loss, ASegmentThatIsCutIsNeverReadAsZeros) {
    constexpr std::uint64_t kBytes = 64 << 10;
    constexpr int kFiles = 24;
    Pool pool(kThree);
    const auto path = [](int i) { return "/f" + std::to_string(i); };
    for (int i = 0; i < kFiles; ++i) {
        pool.post("/v1/files/create", {{"path", path(i)}, {"mode", 0666}});
        pool.post("/v1/files/set", {{"path", path(i)}, {"replicas", 2}});
        pool.post("/v1/files/resize", {{"path", path(i)}, {"size_bytes", kBytes}});
        put_bytes(pool, path(i), std::string(kBytes, 5));
    }
    std::vector<std::unique_ptr<Mapper>> readers;
    for (int i = kFiles - 1; i > 0; i -= 3)
        readers.push_back(std::make_unique<Mapper>(pool, path(i), Access::Read));
    const auto place = place_of(pool, path(kFiles - 1), 0);
    const auto usage = pool.get("/v1/devices/" + place.device);
    const auto segment_bytes = usage.value("segment_bytes", 1ull);
    ASSERT_EQ(place_of(pool, path(0), 0).offset / segment_bytes, place.offset / segment_bytes);
    ASSERT_EQ(::truncate(segment_file(pool, place).c_str(), 0), 0);
    // Who comes first has it noticed, and waits; who comes later must not find zeros.
    std::atomic<bool> is_over{false};
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < readers.size(); ++i)
        threads.emplace_back([&, i] {
            do {
                for (std::size_t k = 0; k < i; ++k) (void)pool.get("/v1/resync");
                EXPECT_EQ(readers[i]->load(0, kBytes), "ok 5");
            } while (!is_over.load());
        });
    const auto segment_parts = "/v1/locate?device=" + place.device + "&offset=" +
                               std::to_string(place.offset / segment_bytes * segment_bytes) +
                               "&length=" + std::to_string(segment_bytes);
    const bool is_left = eventually([&] { return pool.get(segment_parts)["owners"].empty(); },
                                    std::chrono::seconds(10));
    is_over.store(true);
    for (auto& thread : threads) thread.join();
    EXPECT_TRUE(is_left);
    wait_for_resync(pool);
    for (auto& reader : readers) EXPECT_EQ(reader->load(0, kBytes), "ok 5");
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty());
    pool.expect_sound();
}

TEST(Loss, WhatGrowsAfterACopyWasAskedForIsPersistedToIt) {
    Pool pool(kThree);
    make_file(pool, "/file", 1);
    Mapper mapper(pool, "/file", Access::Write);
    pool.post("/v1/files/resize", {{"path", "/file"}, {"size_bytes", 0}});
    pool.post("/v1/files/set", {{"path", "/file"}, {"replicas", 2}});
    wait_for_resync(pool);
    pool.post("/v1/files/resize", {{"path", "/file"}, {"size_bytes", kFileBytes}});
    ASSERT_EQ(mapper.store(0, 5, kFileBytes), "ok");
    ASSERT_EQ(mapper.persist(0, kFileBytes), "ok");
    const auto device = place_of(pool, "/file", 0).device;
    yank(pool, device);
    EXPECT_TRUE(is_gone(pool, device));
    Mapper reader(pool, "/file", Access::Read);
    EXPECT_EQ(reader.load(0, kFileBytes), "ok 5");
}

TEST(Loss, WhatIsPunchedIsZeroForWhoWasHeldBack) {
    Pool pool(kThree);
    make_file(pool, "/two", 2);
    Mapper writer(pool, "/two", Access::Write);
    ASSERT_EQ(writer.store(0, 2, 4 * kPage), "ok");
    const auto device = place_of(pool, "/two", 0).device;
    yank(pool, device);
    EXPECT_TRUE(is_gone(pool, device));
    EXPECT_EQ(writer.load(0), lost_at(0));
    pool.post("/v1/files/punch", {{"path", "/two"}, {"offset", 0}, {"length", kPage}});
    EXPECT_EQ(writer.load(0), "ok 0");
    overwrite(pool, "/two", kPage, 6);
    EXPECT_EQ(writer.load(kPage), "ok 6");
    EXPECT_EQ(writer.load(2 * kPage), lost_at(2 * kPage));
    // Nor is what was cut off held back when it grows anew.
    pool.post("/v1/files/resize", {{"path", "/two"}, {"size_bytes", 2 * kPage}});
    pool.post("/v1/files/resize", {{"path", "/two"}, {"size_bytes", kFileBytes}});
    EXPECT_EQ(writer.load(2 * kPage), "ok 0");
}

// Its stores wait until its pager has mapped the copy.
// The page is whole again, with the copy's bytes, before the program goes on: its own stores are
// gone, so it must not see those.
// Between the reading of the good bytes and their coming in the place of the bad ones nothing is
// stored, nor persisted into any copy: it would be answered for, and be gone.
TEST(Loss, WhatIsPersistedWhileAPartIsRepairedIsOnEveryCopy) {
    for (const unsigned bad : {0u, 1u}) {
        Pool pool(kThree, {"--fault-points"});
        make_file(pool, "/two", 2, /*rolls_back=*/true);
        Mapper writer(pool, "/two", Access::Write);
        ASSERT_EQ(writer.store(0, 1, 2 * kPage), "ok");
        ASSERT_EQ(writer.persist(0, 2 * kPage), "ok");
        const auto place = place_of(pool, "/two", 0, bad);
        const auto other = place_of(pool, "/two", 0, 1 - bad);
        const Json hold{{"name", "recover-repair"}, {"times", 1}, {"action", "hold"}};
        pool.post("/v1/debug/fault-points", hold);
        std::thread failure([&] { poison(pool, place, 2 * kPage); });
        EXPECT_TRUE(eventually([&] { return times_failed(pool, "recover-repair") > 0; }));
        std::atomic<bool> is_persisted = false;
        std::thread program([&] {
            EXPECT_EQ(writer.store(0, 2, 2 * kPage), "ok");
            EXPECT_EQ(writer.persist(0, 2 * kPage), "ok");
            is_persisted = true;
        });
        // It waits, or it is on every copy.
        (void)eventually([&] { return is_persisted.load(); }, std::chrono::milliseconds(200));
        pool.post("/v1/debug/fault-points", {{"name", "recover-repair"}, {"times", 0}});
        failure.join();
        program.join();
        yank(pool, other.device);
        ASSERT_TRUE(is_gone(pool, other.device));
        EXPECT_EQ(writer.load(0, 2 * kPage), "ok 2") << bad;
        EXPECT_EQ(Mapper(pool, "/two", Access::Read).load(0, 2 * kPage), "ok 2") << bad;
    }
}

TEST(Loss, WhoIsStoppedWhileItsPageIsRepairedIsHeldBackAtTheFirstTouch) {
    Pool pool(kThree);
    make_file(pool, "/two", 2);
    Mapper writer(pool, "/two", Access::Write);
    for (std::uint64_t page = 0; page < 20; ++page) {
        ASSERT_EQ(writer.store(page * kPage, 1), "ok");
        ASSERT_EQ(writer.persist(page * kPage), "ok");
        ASSERT_EQ(writer.store(page * kPage, 2), "ok");  // not persisted
        const auto place = place_of(pool, "/two", page * kPage);
        // Not with a place in its pager's hand: "A stopped pager" in docs/architecture.md.
        EXPECT_TRUE(eventually([&] { return has_mapped_all(pool); }));
        writer.stop();
        const auto record = poison(pool, place);
        EXPECT_EQ(record["parts"][0].value("outcome", ""), "repaired") << record.dump();
        writer.begin("load " + std::to_string(page * kPage) + " 4096");
        writer.go_on();
        EXPECT_EQ(writer.answer(), lost_at(page * kPage));
        EXPECT_EQ(writer.say("accept " + std::to_string(page * kPage) + " 4096"), "ok");
        EXPECT_EQ(writer.load(page * kPage), "ok 1");
    }
    pool.expect_sound();
}

// The tracker has found a region and is late; a page of it is repaired meanwhile, under a program
// that is stopped. What makes that program's next touch wait is not the tracker's to take away.
TEST(Loss, TrackingStoresLeavesAloneWhatIsStillToBeMappedAnew) {
    Pool pool(kThree, {"--fault-points"});
    make_file(pool, "/two", 2);
    make_file(pool, "/other", 2);
    const auto arm = [&](unsigned times, const char* action) {
        pool.post("/v1/debug/fault-points",
                  {{"name", "track-fence"}, {"times", times}, {"action", action}});
    };
    arm(1, "hold");
    Mapper writer(pool, "/two", Access::Write);
    ASSERT_EQ(writer.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(writer.persist(0, kFileBytes), "ok");
    ASSERT_TRUE(eventually([&] { return times_failed(pool, "track-fence") == 1; }));
    ASSERT_EQ(writer.store(kPage, 2), "ok");  // not persisted
    ASSERT_TRUE(eventually([&] { return has_mapped_all(pool); }));
    const auto place = place_of(pool, "/two", kPage);
    writer.stop();
    EXPECT_EQ(poison(pool, place)["parts"][0].value("outcome", ""), "repaired");
    arm(0, "fail");
    // The tracker is through with that region when it has come to another.
    Mapper other(pool, "/other", Access::Write);
    ASSERT_EQ(other.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(other.persist(0, kFileBytes), "ok");
    EXPECT_TRUE(eventually([&] {
        const auto maps = pool.get("/v1/maps?path=/other")["mappings"];
        return !maps.empty() && maps[0].value("clean_bytes", 0ull) == kFileBytes;
    }));
    writer.begin("load " + std::to_string(kPage) + " 4096");
    writer.go_on();
    EXPECT_EQ(writer.answer(), lost_at(kPage));
    pool.expect_sound();
}

TEST(Loss, WhoWasStoppedWhileACopyWasMadePersistsToIt) {
    Pool pool(kThree);
    for (int i = 0; i < 20 && !::testing::Test::HasFailure(); ++i) {
        const auto path = "/file" + std::to_string(i);
        make_file(pool, path, 1);
        Mapper mapper(pool, path, Access::Write);
        ASSERT_EQ(mapper.store(0, 1, kFileBytes), "ok");
        mapper.stop();
        pool.post("/v1/files/set", {{"path", path}, {"replicas", 2}});
        EXPECT_TRUE(eventually([&] { return !place_of(pool, path, 0, 1).device.empty(); }));
        wait_for_resync(pool);
        mapper.begin("store 0 2 " + std::to_string(kFileBytes));
        mapper.begin("persist 0 " + std::to_string(kFileBytes));
        mapper.go_on();
        ASSERT_EQ(mapper.answer(), "ok");
        ASSERT_EQ(mapper.answer(), "ok");
        poison(pool, place_of(pool, path, 0));
        Mapper reader(pool, path, Access::Read);
        EXPECT_EQ(reader.load(0), "ok 2");
    }
}

}  // namespace
}  // namespace refault::tests
