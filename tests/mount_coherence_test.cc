// Two ways into one file: by the library and by a mount. Neither ever shows the other something
// old; what cannot be kept so is refused.
#include <sys/stat.h>

#include <cerrno>
#include <fstream>

#include "tests/mount_support.h"

namespace refault::tests {
namespace {

using Access = Mapper::Access;

class MountCoherence : public ::testing::Test {
  protected:
    void SetUp() override { NEEDS_FUSE(); }
};

TEST_F(MountCoherence, AMappedFileIsReadAndWrittenInPlace) {
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/f", 1);
    Mapper mapper(pool, "/f", Access::Write);
    Filer filer(mount / "f", "write");
    ASSERT_EQ(mapper.store(0, 1, 4 * kPage), "ok");
    EXPECT_EQ(filer.pread(0, 4 * kPage), "ok 1");
    ASSERT_EQ(mapper.store(0, 2, 4 * kPage), "ok");
    EXPECT_EQ(filer.pread(0, 4 * kPage), "ok 2") << "nothing was cached";
    EXPECT_EQ(filer.pwrite(kPage, 3), "ok");
    EXPECT_EQ(mapper.load(kPage), "ok 3");
    // A shared mapping in both worlds at once is refused; a private one would be a cached copy,
    // too.
    EXPECT_EQ(filer.say("map shared"), failed(ENODEV));
    EXPECT_EQ(filer.say("truncate " + std::to_string(2 * kFileBytes)), "ok");
    EXPECT_EQ(filer.say("size"), "ok " + std::to_string(2 * kFileBytes));
}

TEST_F(MountCoherence, AFileInTheCacheIsNotMappedDirectly) {
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/f", 1);
    SharedFiler filer(mount / "f");
    ASSERT_EQ(filer.store(0, 7), "ok");
    Talker refused({"refault-mapper", pool.daemon().session_socket(), "/f", "write"});
    EXPECT_NE(refused.greeting().find("open on a mount"), std::string::npos) << refused.greeting();
    Talker reader({"refault-mapper", pool.daemon().session_socket(), "/f", "read"});
    EXPECT_NE(reader.greeting(), "ready");
    EXPECT_EQ(filer.load(0), "ok 7");
}

TEST_F(MountCoherence, WhatIsCachedOfAClosedFileIsNotShownAfterADirectStore) {
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/f", 1);
    {
        SharedFiler filer(mount / "f");
        ASSERT_EQ(filer.store(0, 1, kFileBytes), "ok");
    }
    {
        Mapper mapper(pool, "/f", Access::Write);
        EXPECT_EQ(mapper.load(0, kFileBytes), "ok 1") << "what was stored there was written back";
        ASSERT_EQ(mapper.store(0, 2, kFileBytes), "ok");
        EXPECT_EQ(mapper.persist(0, kFileBytes), "ok");
    }
    // The daemon has seen the client's end.
    EXPECT_TRUE(eventually([&] { return pool.get("/v1/maps")["mappings"].empty(); }));
    SharedFiler filer(mount / "f");
    EXPECT_EQ(filer.load(0, kFileBytes), "ok 2");
}

// A private mapping fills the kernel's cache also where everything else goes past it.
TEST_F(MountCoherence, WhatAPrivateMappingHasReadIsNotShownAfterADirectStore) {
    for (const char* options : {"", "writeback"}) {
        Pool pool(kThree);
        Mounted mount(pool, options);
        make_file(pool, "/f", 1);
        {
            Mapper mapper(pool, "/f", Access::Write);
            ASSERT_EQ(mapper.store(0, 1, kFileBytes), "ok");
            Filer filer(mount / "f", "read");
            ASSERT_EQ(filer.say("map private"), "ok");
            EXPECT_EQ(filer.load(0, kFileBytes), "ok 1");
            ASSERT_EQ(mapper.store(0, 2, kFileBytes), "ok");
            EXPECT_EQ(mapper.persist(0, kFileBytes), "ok");
            Filer later(mount / "f", "read");
            ASSERT_EQ(later.say("map private"), "ok");
            EXPECT_EQ(later.load(0, kFileBytes), "ok 2");
            ASSERT_EQ(mapper.store(0, 3, kFileBytes), "ok");
            EXPECT_EQ(mapper.persist(0, kFileBytes), "ok");
        }
        EXPECT_TRUE(eventually([&] {
            return pool.get("/v1/maps")["mappings"].empty() &&
                   pool.get("/v1/mounts")["mounts"][0]["open_files"] == 0;
        }));
        SharedFiler filer(mount / "f");
        EXPECT_EQ(filer.load(0, kFileBytes), "ok 3") << options;
        ASSERT_EQ(filer.store(0, 4), "ok");
        ASSERT_EQ(filer.say("msync"), "ok");
        EXPECT_EQ(filer.load(kPage, kFileBytes - kPage), "ok 3");
        const auto bytes =
            pool.control().get_bytes("/v1/files/data?path=/f&offset=4096&length=4096");
        ASSERT_TRUE(bytes);
        EXPECT_EQ(*bytes, std::string(kPage, 3));
    }
}

// There the kernel keeps the sizes of files to itself.
TEST_F(MountCoherence, WithWritebackTheSizeIsChangedByOneSideAtATime) {
    Pool pool(kThree);
    Mounted mount(pool, "writeback");
    make_file(pool, "/f", 1);
    const auto resize = [&](std::uint64_t size) {
        return pool.control().post("/v1/files/resize", {{"path", "/f"}, {"size_bytes", size}});
    };
    {
        Filer filer(mount / "f", "read");
        const auto refused = resize(3 * kPage);
        ASSERT_FALSE(refused);
        EXPECT_NE(refused.error().message().find("writeback"), std::string::npos)
            << refused.error().message();
        EXPECT_EQ(filer.say("size"), "ok " + std::to_string(kFileBytes));
        // What is inside may be changed.
        put_bytes(pool, "/f", std::string(kPage, 9));
        EXPECT_EQ(filer.pread(0), "ok 9");
    }
    for (const std::uint64_t size : {3 * kPage, 7 * kPage, 2 * kPage}) {
        // The kernel tells of a close when it has returned.
        EXPECT_TRUE(
            eventually([&] { return pool.get("/v1/mounts")["mounts"][0]["open_files"] == 0; }));
        ASSERT_TRUE(resize(size));
        Filer filer(mount / "f", "append");
        EXPECT_EQ(filer.say("size"), "ok " + std::to_string(size));
        EXPECT_EQ(filer.pwrite(size, 5, 1), "ok");
        EXPECT_EQ(filer.say("fsync"), "ok");
        EXPECT_EQ(pool.get("/v1/files/stat?path=/f")["size_bytes"], size + 1);
    }
}

TEST_F(MountCoherence, TheToolsSeeAndAreSeen) {
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/f", 1);
    SharedFiler filer(mount / "f");
    ASSERT_EQ(filer.store(0, 1, 4 * kPage), "ok");
    // Not written back yet, and read by the daemon.
    const auto bytes = pool.control().get_bytes("/v1/files/data?path=/f&offset=0&length=16384");
    ASSERT_TRUE(bytes);
    EXPECT_EQ(*bytes, std::string(16384, 1));
    put_bytes(pool, "/f", std::string(kPage, 9), kPage);
    EXPECT_EQ(filer.load(kPage), "ok 9");
    EXPECT_EQ(filer.pread(kPage), "ok 9");
    EXPECT_EQ(filer.load(0), "ok 1");
    // Stored before, and not over what was written since.
    ASSERT_EQ(filer.store(2 * kPage, 5), "ok");
    put_bytes(pool, "/f", std::string(kPage, 6), 2 * kPage);
    EXPECT_EQ(filer.say("msync"), "ok");
    EXPECT_EQ(filer.load(2 * kPage), "ok 6");
    pool.post("/v1/files/punch", {{"path", "/f"}, {"offset", 0}, {"length", kPage}});
    EXPECT_EQ(filer.load(0), "ok 0");
    pool.post("/v1/files/resize", {{"path", "/f"}, {"size_bytes", 2 * kPage}});
    EXPECT_EQ(filer.say("size"), "ok " + std::to_string(2 * kPage));
    EXPECT_EQ(filer.load(3 * kPage), "sigbus " + std::to_string(3 * kPage));
    pool.post("/v1/files/resize", {{"path", "/f"}, {"size_bytes", 3 * kPage}});
    // A longer file is seen by who asks for its size, or opens or reads it.
    EXPECT_EQ(filer.say("size"), "ok " + std::to_string(3 * kPage));
    EXPECT_EQ(filer.load(2 * kPage), "ok 0");
}

TEST_F(MountCoherence, NamesThatOthersMakeAndRemoveAreSeenAtOnce) {
    Pool pool(kThree);
    Mounted mount(pool);
    struct stat status {};
    for (int round = 0; round < 20; ++round) {
        // That there is none is kept by the kernel, too.
        EXPECT_NE(::stat((mount / "f").c_str(), &status), 0);
        pool.post("/v1/files/create", {{"path", "/f"}});
        EXPECT_EQ(::stat((mount / "f").c_str(), &status), 0) << round;
        pool.post("/v1/files/rename", {{"from", "/f"}, {"to", "/g"}});
        EXPECT_NE(::stat((mount / "f").c_str(), &status), 0) << round;
        EXPECT_EQ(::stat((mount / "g").c_str(), &status), 0) << round;
        EXPECT_EQ(shell(mount.path(), "ls").out, "g\n");
        pool.post("/v1/files/remove", {{"path", "/g"}});
        EXPECT_NE(::stat((mount / "g").c_str(), &status), 0) << round;
        EXPECT_EQ(shell(mount.path(), "ls").out, "");
    }
}

// Every read of one side shows what the other has finished writing before.
TEST_F(MountCoherence, TurnsAreTakenWithoutALostOne) {
    Pool pool(kThree);
    Mounted mount(pool);
    make_file(pool, "/f", 2);
    Mapper mapper(pool, "/f", Access::Write);
    Filer filer(mount / "f", "write");
    for (unsigned turn = 1; turn < 60; ++turn) {
        ASSERT_EQ(mapper.store(turn * kPage, turn), "ok");
        ASSERT_EQ(filer.pread(turn * kPage), "ok " + std::to_string(turn));
        ASSERT_EQ(filer.pwrite(turn * kPage, turn + 100), "ok");
        ASSERT_EQ(mapper.load(turn * kPage), "ok " + std::to_string(turn + 100));
    }
    pool.expect_sound();
}

}  // namespace
}  // namespace refault::tests
