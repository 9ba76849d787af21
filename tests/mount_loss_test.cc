// Memory that goes away under programs that use the mount: values stay, at the same addresses, or
// exactly what is lost fails, with EIO and SIGBUS.
#include <cerrno>
#include <filesystem>

#include "tests/mount_support.h"

namespace refault::tests {
namespace {

constexpr std::uint64_t kPages = kFileBytes / kPage;

class MountLoss : public ::testing::Test {
  protected:
    void SetUp() override { NEEDS_FUSE(); }
};

std::string sigbus_at(std::uint64_t offset) {
    return "sigbus " + std::to_string(offset);
}

TEST_F(MountLoss, AMappedFileLivesThroughAPull) {
    NEEDS_PROOF();
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/f", 1);
    SharedFiler filer(mount / "f");
    ASSERT_EQ(filer.store(0, 5, kFileBytes), "ok");
    const auto address = filer.say("address");
    const auto device = place_of(pool, "/f", 0).device;
    pool.pull({device});
    pool.wait_for_phase(device, "safe");
    EXPECT_EQ(filer.load(0, kFileBytes), "ok 5");
    EXPECT_EQ(filer.pread(0, kFileBytes), "ok 5");
    EXPECT_EQ(filer.say("address"), address);
    EXPECT_EQ(filer.store(0, 6), "ok");
    EXPECT_EQ(filer.say("msync"), "ok");
    EXPECT_EQ(filer.say("fsync"), "ok");
    EXPECT_NE(place_of(pool, "/f", 0).device, device);
    const auto bytes = pool.control().get_bytes("/v1/files/data?path=/f&offset=0&length=4097");
    ASSERT_TRUE(bytes);
    EXPECT_EQ(*bytes, std::string(kPage, 6) + std::string(1, 5));
    pool.expect_sound();
}

// Dirty pages, and their write-back, all the time while devices leave one after the other.
TEST_F(MountLoss, DirtyMappedPagesFollowThePulls) {
    NEEDS_PROOF();
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M", "d=ram:64M"});
    Mounted mount(pool);
    make_file(pool, "/f", 1);
    SharedFiler filer(mount / "f");
    ASSERT_EQ(filer.say("churn 0 " + std::to_string(kPages)), "ok");
    for (int i = 0; i < 2; ++i) {
        const auto device = place_of(pool, "/f", 0).device;
        pool.pull({device});
        pool.wait_for_phase(device, "safe");
        EXPECT_EQ(filer.say("fsync"), "ok");
    }
    EXPECT_TRUE(filer.say("rest").starts_with("ok ")) << "a page had older bytes";
    EXPECT_EQ(filer.say("fsync"), "ok");
    pool.expect_sound();
}

TEST_F(MountLoss, AYankedDeviceCostsNothingWhereThereIsACopy) {
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/f", 2);
    SharedFiler filer(mount / "f");
    ASSERT_EQ(filer.store(0, 5, kFileBytes), "ok");
    ASSERT_EQ(filer.say("msync"), "ok");
    ASSERT_EQ(filer.say("churn 16 64"), "ok");
    const auto device = place_of(pool, "/f", 0).device;
    yank(pool, device);
    EXPECT_EQ(filer.pwrite(0, 7), "ok");
    EXPECT_TRUE(is_gone(pool, device));
    EXPECT_TRUE(filer.say("rest").starts_with("ok "));
    EXPECT_EQ(filer.load(0), "ok 7");
    EXPECT_EQ(filer.load(kPage, 15 * kPage), "ok 5");
    EXPECT_EQ(filer.pread(100 * kPage, 100 * kPage), "ok 5");
    EXPECT_EQ(filer.say("fsync"), "ok");
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty());
    wait_for_resync(pool);
    pool.expect_sound();
}

TEST_F(MountLoss, AYankedDeviceLosesWhatHasNoCopyAndNothingElse) {
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/one", 1);
    make_file(pool, "/two", 2);
    SharedFiler one(mount / "one"), two(mount / "two");
    ASSERT_EQ(one.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(two.store(0, 2, kFileBytes), "ok");
    ASSERT_EQ(one.say("msync"), "ok");
    ASSERT_EQ(two.say("msync"), "ok");
    const auto device = place_of(pool, "/one", 0).device;
    yank(pool, device);
    EXPECT_TRUE(is_gone(pool, device));
    // Also what the kernel had cached: it is unmapped, and comes back as what it is now.
    EXPECT_TRUE(eventually([&] { return one.load(3 * kPage) == sigbus_at(3 * kPage); },
                           std::chrono::seconds(10)));
    EXPECT_EQ(one.pread(3 * kPage), failed(EIO));
    EXPECT_EQ(two.load(0, kFileBytes), "ok 2");
    EXPECT_EQ(two.pread(0, kFileBytes), "ok 2");
    // Whole pages written anew are good again, and can be mapped.
    EXPECT_EQ(one.pwrite(3 * kPage, 9), "ok");
    EXPECT_EQ(one.load(3 * kPage), "ok 9");
    EXPECT_EQ(one.load(4 * kPage), sigbus_at(4 * kPage));
    EXPECT_EQ(one.say("fsync"), "ok");
    pool.expect_sound();
}

TEST_F(MountLoss, APoisonedPageIsLostAloneOrRepaired) {
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/one", 1);
    make_file(pool, "/two", 2);
    SharedFiler one(mount / "one"), two(mount / "two");
    for (auto* filer : {&one, &two}) {
        ASSERT_EQ(filer->store(0, 4, kFileBytes), "ok");
        ASSERT_EQ(filer->say("msync"), "ok");
    }
    EXPECT_EQ(poison(pool, place_of(pool, "/one", 9 * kPage))["parts"][0].value("outcome", ""),
              "lost");
    EXPECT_EQ(poison(pool, place_of(pool, "/two", 9 * kPage))["parts"][0].value("outcome", ""),
              "repaired");
    EXPECT_TRUE(eventually([&] { return one.load(9 * kPage) == sigbus_at(9 * kPage); },
                           std::chrono::seconds(10)));
    EXPECT_EQ(one.pread(9 * kPage), failed(EIO));
    EXPECT_EQ(one.load(0, 9 * kPage), "ok 4");
    EXPECT_EQ(one.load(10 * kPage, kFileBytes - 10 * kPage), "ok 4");
    EXPECT_EQ(two.load(0, kFileBytes), "ok 4");
    EXPECT_EQ(two.pread(0, kFileBytes), "ok 4");
    // Lost, and part of a page: refused; punched: zeros.
    EXPECT_EQ(one.pwrite(9 * kPage + 10, 1, 20), failed(EIO));
    pool.post("/v1/files/punch", {{"path", "/one"}, {"offset", 9 * kPage}, {"length", kPage}});
    EXPECT_EQ(one.load(9 * kPage), "ok 0");
    EXPECT_EQ(one.pwrite(9 * kPage + 10, 1, 20), "ok");
    pool.expect_sound();
}

// Open or not: every name of the file, where it was, what of it.
TEST_F(MountLoss, ALossIsReportedByAllNamesOfAFileThatNobodyHasOpen) {
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/f", 1);
    ASSERT_EQ(::link((mount / "f").c_str(), (mount / "second").c_str()), 0);
    const auto place = place_of(pool, "/f", 9 * kPage);
    poison(pool, place);
    const Json names = {"/f", "/second"};
    const auto lost = pool.get("/v1/lost")["lost"];
    ASSERT_EQ(lost.size(), 1u) << lost.dump();
    EXPECT_EQ(lost[0]["paths"], names);
    EXPECT_FALSE(lost[0].value("was_open", true));
    const auto answer = pool.get("/v1/events?follow=0");
    Json told;
    for (const auto& event : answer["events"])
        if (event["kind"] == "file-range-lost") told = event;
    EXPECT_EQ(told["paths"], names) << told.dump();
    EXPECT_EQ(told.value("device", ""), place.device);
    EXPECT_EQ(told.value("device_offset", 0ull), place.offset);
    EXPECT_EQ(told.value("file_offset", 0ull), 9 * kPage);
    EXPECT_EQ(told.value("length_bytes", 0ull), kPage);
}

// A dirty page whose memory was lost is whole and newer than what was lost: it is written back.
TEST_F(MountLoss, ADirtyPageOverLostMemoryIsKept) {
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/f", 1);
    SharedFiler filer(mount / "f");
    ASSERT_EQ(filer.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(filer.say("msync"), "ok");
    ASSERT_EQ(filer.store(5 * kPage, 2), "ok");
    poison(pool, place_of(pool, "/f", 5 * kPage));
    EXPECT_EQ(filer.load(5 * kPage), "ok 2");
    EXPECT_EQ(filer.say("fsync"), "ok");
    EXPECT_EQ(filer.pread(5 * kPage), "ok 2");
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty()) << pool.get("/v1/lost").dump();
    // Also the last page of a file, which is written up to the file's end.
    ASSERT_EQ(filer.say("truncate 10000"), "ok");
    ASSERT_EQ(filer.store(2 * kPage, 3, 10'000 - 2 * kPage), "ok");
    poison(pool, place_of(pool, "/f", 2 * kPage));
    EXPECT_EQ(filer.say("fsync"), "ok");
    EXPECT_EQ(filer.pread(2 * kPage, 10'000 - 2 * kPage), "ok 3");
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty()) << pool.get("/v1/lost").dump();
    pool.expect_sound();
}

// Requests go on while the notifier waits in the kernel for pages that requests hold: many readers,
// all the time, while page after page fails.
TEST_F(MountLoss, NothingHangsWhileReadersAndFailuresMeet) {
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/f", 2);
    put_bytes(pool, "/f", std::string(kFileBytes, 3));
    std::vector<std::unique_ptr<SharedFiler>> filers;
    for (int i = 0; i < 4; ++i) {
        filers.push_back(std::make_unique<SharedFiler>(mount / "f"));
        ASSERT_EQ(filers.back()->say("churn " + std::to_string(64 * i) + " 64"), "ok");
    }
    Filer reader(mount / "f", "read");
    for (std::uint64_t i = 0; i < 40; ++i) {
        poison(pool, place_of(pool, "/f", (i * 37 % kPages) * kPage, i % 2));
        ASSERT_TRUE(reader.pread(0, kFileBytes).starts_with("mixed"));
    }
    for (auto& filer : filers) EXPECT_TRUE(filer->say("rest").starts_with("ok "));
    EXPECT_EQ(filers[0]->say("fsync"), "ok");
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty()) << pool.get("/v1/lost").dump();
}

}  // namespace
}  // namespace refault::tests
