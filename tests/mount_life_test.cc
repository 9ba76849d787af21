// A mount from its beginning to each of its ends.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "tests/mount_support.h"

namespace refault::tests {
namespace {

class MountLife : public ::testing::Test {
  protected:
    void SetUp() override { NEEDS_FUSE(); }
};

TEST_F(MountLife, TheCommandsMountListAndUnmount) {
    Pool pool(kThree);
    TemporaryDirectory scratch;
    const auto at = scratch.path() + "/m";
    ASSERT_EQ(::mkdir(at.c_str(), 0755), 0);
    EXPECT_EQ(run_refault(pool, {"mounts"}).out, "the pool is mounted nowhere\n");
    auto done = run_refault(pool, {"mount", "test", at, "-o", "nosuid,noexec"});
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_EQ(done.out, "test mounted at " + at + "\n");
    const auto mounts = Json::parse(run_refault(pool, {"mounts", "--json"}).out)["mounts"];
    ASSERT_EQ(mounts.size(), 1u);
    EXPECT_EQ(mounts[0].value("directory", ""), at);
    std::ofstream(at + "/f") << "x";
    EXPECT_EQ(run_refault(pool, {"mount", at}).err,
              "refault: the pool is already mounted at " + at + "\n");
    EXPECT_NE(run_refault(pool, {"mount", scratch.path()}).status, 0) << "one mount a pool";
    done = run_refault(pool, {"umount", at + "/../nowhere"});
    EXPECT_EQ(done.status, 1);
    {
        Filer filer(at + "/f", "write");
        done = run_refault(pool, {"umount", at});
        EXPECT_EQ(done.status, 1);
        EXPECT_NE(done.err.find("busy"), std::string::npos) << done.err;
    }
    done = run_refault(pool, {"umount", at});
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_FALSE(std::filesystem::exists(at + "/f"));
    for (const auto& wrong : std::vector<std::vector<std::string>>{
             {"mount", at, "-o", "ro,writebakc"}, {"mount", "other", at}, {"mount", at + "/none"}})
        EXPECT_EQ(run_refault(pool, wrong).status, 1);
    EXPECT_EQ(run_refault(pool, {"ls"}).status, 0);
    for (const char* command : {"mount", "umount", "mounts"})
        EXPECT_NE(run_refault(pool, {command, "--help"}).out.find("refault"), std::string::npos);
}

TEST_F(MountLife, ReadOnlyIsReadOnly) {
    Pool pool(kThree);
    make_file(pool, "/f", 1);
    Mounted mount(pool, "ro");
    EXPECT_EQ(Filer(mount / "f", "read").greeting(), "ready");
    EXPECT_EQ(Filer(mount / "f", "write").greeting(), failed(EROFS));
    EXPECT_EQ(Filer(mount / "g", "create").greeting(), failed(EROFS));
}

// What was stored through a mapping and never synced is in the pool when the daemon has ended.
TEST_F(MountLife, AStoppingDaemonWritesBackAndUnmounts) {
    TemporaryDirectory scratch;
    const std::vector<std::string> paths{scratch.path() + "/d0", scratch.path() + "/d1"};
    std::vector<std::string> made, known;
    for (std::size_t i = 0; i < paths.size(); ++i) {
        ASSERT_EQ(::mkdir(paths[i].c_str(), 0755), 0);
        made.push_back("n" + std::to_string(i) + "=dir:" + paths[i] + ",size=64M");
        known.push_back("dir:" + paths[i]);
    }
    {
        Pool pool(made);
        Mounted mount(pool);
        make_file(pool, "/f", 1);
        SharedFiler filer(mount / "f");
        ASSERT_EQ(filer.store(0, 8, kFileBytes), "ok");
        ASSERT_TRUE(mount.is_mounted());
        const auto stopped = pool.daemon().stop();
        EXPECT_TRUE(stopped) << stopped.error().message();
        EXPECT_FALSE(mount.is_mounted());
        EXPECT_EQ(filer.pread(0), failed(ENOTCONN));
    }
    auto pool = Pool::open(known);
    const auto bytes = pool.control().get_bytes("/v1/files/data?path=/f&offset=0&length=1048576");
    ASSERT_TRUE(bytes);
    EXPECT_TRUE(*bytes == std::string(kFileBytes, 8));
    pool.expect_sound();
}

TEST_F(MountLife, AClosedPoolIsUnmounted) {
    Pool pool(kThree);
    Mounted mount(pool);
    Filer filer(mount / "f", "create");
    EXPECT_EQ(filer.pwrite(0, 1), "ok");
    pool.post("/v1/pool/close", Json::object());
    EXPECT_FALSE(mount.is_mounted());
    EXPECT_EQ(filer.pread(0), failed(ENOTCONN));
}

TEST_F(MountLife, ADaemonThatIsKilledLeavesErrorsNotHangs) {
    Pool pool(kThree);
    Mounted mount(pool);
    Filer filer(mount / "f", "create");
    EXPECT_EQ(filer.pwrite(0, 1), "ok");
    ASSERT_EQ(::kill(pool.daemon().pid(), SIGKILL), 0);
    EXPECT_TRUE(
        eventually([&] { return Filer(mount / "f", "read").greeting() == failed(ENOTCONN); }));
    // Cached as it is, or refused; answered in any case.
    EXPECT_NE(filer.say("fsync"), "");
}

TEST_F(MountLife, AnAbortedConnectionIsCleanedUpAndCanBeMadeAnew) {
    if (::geteuid() != 0) GTEST_SKIP() << "takes root";
    Pool pool(kThree);
    Mounted mount(pool);
    Filer filer(mount / "f", "create");
    ASSERT_EQ(filer.pwrite(0, 7), "ok");
    ASSERT_EQ(::unlink((mount / "f").c_str()), 0);
    const std::string control = "/sys/fs/fuse/connections";
    const auto aborted =
        shell("/", "exec unshare -m /bin/sh -c 'mount -t fusectl none " + control + " && echo 1 >" +
                       control + "/" + mount.connection() + "/abort'");
    ASSERT_EQ(aborted.status, 0) << aborted.out;
    EXPECT_TRUE(eventually([&] { return !mount.is_mounted(); }));
    EXPECT_TRUE(eventually([&] { return pool.get("/v1/mounts")["mounts"].empty(); }));
    EXPECT_EQ(filer.say("fsync"), failed(ENOTCONN));
    // What was open and had no name is gone with the connection.
    EXPECT_TRUE(eventually([&] { return pool.get("/v1/status").value("data_bytes", 1ull) == 0; }));
    pool.post("/v1/mounts", {{"directory", mount.path()}});
    EXPECT_EQ(Filer(mount / "g", "create").greeting(), "ready");
    pool.expect_sound();
}

TEST_F(MountLife, UnmountedFromOutsideItCanBeMountedAgain) {
    if (::geteuid() != 0) GTEST_SKIP() << "takes root";
    Pool pool(kThree);
    Mounted mount(pool);
    EXPECT_EQ(shell("/", "umount " + mount.path()).status, 0);
    EXPECT_TRUE(eventually([&] { return pool.get("/v1/mounts")["mounts"].empty(); }));
    pool.post("/v1/mounts", {{"directory", mount.path()}});
    EXPECT_TRUE(mount.is_mounted());
}

TEST_F(MountLife, AFullPoolSaysSoAtTheWriteAndLosesNothing) {
    Pool pool({"a=ram:32M", "b=ram:32M"});
    Mounted mount(pool);
    Filer filer(mount / "f", "create");
    ASSERT_EQ(filer.pwrite(0, 1, 4 * kPage), "ok");
    std::uint64_t written = 4 * kPage;
    std::string answer = "ok";
    for (; answer == "ok" && written < (1ull << 30); written += 256 * kPage)
        answer = filer.pwrite(written, 2, 256 * kPage);
    EXPECT_TRUE(answer == failed(ENOSPC) || answer.starts_with("short ")) << answer;
    EXPECT_EQ(filer.pwrite(written, 3, 256 * kPage), failed(ENOSPC));
    EXPECT_EQ(filer.pread(0, 4 * kPage), "ok 1");
    EXPECT_EQ(filer.say("fsync"), "ok");
    EXPECT_EQ(filer.pwrite(0, 4, 4 * kPage), "ok") << "what has space can be written over";
    // A hole that cannot be filled: the mapping's store is found out at the latest by msync.
    Filer sparse(mount / "s", "create");
    ASSERT_EQ(sparse.say("truncate 16777216"), "ok");
    ASSERT_EQ(sparse.say("map shared"), "ok");
    ASSERT_EQ(sparse.store(0, 5, 16u << 20), "ok");
    EXPECT_NE(sparse.say("msync"), "ok");
    ASSERT_EQ(filer.say("truncate 0"), "ok");
    EXPECT_EQ(sparse.pwrite(0, 6, 16 * kPage), "ok");
    pool.expect_sound();
}

TEST_F(MountLife, ThousandsOfOpenFiles) {
    Pool pool(kThree);
    Mounted mount(pool);
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    const auto old = limit;
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 6000);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    const std::size_t count = std::min<std::size_t>(limit.rlim_cur - 200, 4000);
    std::vector<base::UniqueFd> files;
    for (std::size_t i = 0; i < count; ++i) {
        files.emplace_back(::open((mount / ("f" + std::to_string(i))).c_str(),
                                  O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        ASSERT_TRUE(files.back()) << i << ": " << std::strerror(errno);
        ASSERT_EQ(::write(files.back().get(), &i, sizeof i), static_cast<ssize_t>(sizeof i));
    }
    EXPECT_EQ(pool.get("/v1/mounts")["mounts"][0].value("open_files", 0ull), count);
    for (std::size_t i = 0; i < count; ++i) {
        std::size_t found = 0;
        ASSERT_EQ(::pread(files[i].get(), &found, sizeof found, 0), static_cast<ssize_t>(sizeof i));
        ASSERT_EQ(found, i);
    }
    files.clear();
    (void)::setrlimit(RLIMIT_NOFILE, &old);
    EXPECT_TRUE(eventually(
        [&] { return pool.get("/v1/mounts")["mounts"][0].value("open_files", 1ull) == 0; }));
}

TEST_F(MountLife, AKilledProgramLeavesNothingBehind) {
    Pool pool(kThree);
    Mounted mount(pool);
    for (int round = 0; round < 5; ++round) {
        Filer filer(mount / ("f" + std::to_string(round)), "create");
        ASSERT_EQ(filer.say("truncate 4194304"), "ok");
        ASSERT_EQ(filer.say("map shared"), "ok");
        ASSERT_EQ(filer.say("churn 0 1024"), "ok");
        filer.begin("pwrite 0 1 4194304");
        filer.kill();
    }
    EXPECT_TRUE(eventually(
        [&] { return pool.get("/v1/mounts")["mounts"][0].value("open_files", 1ull) == 0; }));
    pool.expect_sound();
}

// Gathered writes are in the pool after fsync, and whoever asks before makes them be written.
TEST_F(MountLife, GatheredWritesAreWrittenWhenAskedFor) {
    Pool pool({"a=ram:32M", "b=ram:32M"});
    Mounted mount(pool, "writeback");
    Filer filer(mount / "f", "create");
    ASSERT_EQ(filer.pwrite(0, 1, 16 * kPage), "ok");
    ASSERT_EQ(filer.say("fsync"), "ok");
    ASSERT_EQ(filer.pwrite(kPage, 2, 8 * kPage), "ok");
    const auto bytes = pool.control().get_bytes("/v1/files/data?path=/f&offset=4096&length=32768");
    ASSERT_TRUE(bytes);
    EXPECT_TRUE(*bytes == std::string(8 * kPage, 2));
    put_bytes(pool, "/f", std::string(kPage, 3), kPage);
    EXPECT_EQ(filer.pread(kPage), "ok 3");
    const auto device = place_of(pool, "/f", 0).device;
    ASSERT_EQ(filer.pwrite(0, 4, kPage), "ok");
    poison(pool, place_of(pool, "/f", 0));
    EXPECT_EQ(filer.pread(0), "ok 4") << "gathered, and newer than what was lost";
    // More than fits: the error comes by the next fsync at the latest, once.
    std::string answer = "ok";
    for (std::uint64_t at = 16 * kPage; at < (100u << 20) && answer == "ok"; at += 256 * kPage)
        answer = filer.pwrite(at, 5, 256 * kPage);
    const auto synced = filer.say("fsync");
    EXPECT_TRUE(answer == failed(ENOSPC) || synced == failed(ENOSPC)) << answer << ", " << synced;
    EXPECT_EQ(filer.say("fsync"), "ok");
    EXPECT_EQ(filer.pread(kPage), "ok 3");
}

// In a mount namespace of its own, where /dev/fuse is open to users as it is on a usual system.
TEST_F(MountLife, AnOrdinaryUserMountsByFusermount) {
    if (::geteuid() != 0) GTEST_SKIP() << "root tests what users may";
    TemporaryDirectory scratch;
    ASSERT_EQ(::chmod(scratch.path().c_str(), 0777), 0);
    std::ofstream(scratch.path() + "/as_user.sh") << R"(
export PATH=$1:$PATH REFAULT_RUN_DIR=$PWD/run
mkdir m run
refaultd --run-dir run --create u --device a=ram:32M --device b=ram:32M >log 2>&1 &
until grep -qs ready log; do :; done
refault mount m >/dev/null && echo hi >m/f && cat m/f && id -u && stat -c %u m/f
refault mount m 2>/dev/null || echo one
refault umount m && ls m | wc -l
refault mount m -o allow_other 2>/dev/null || echo refused
refault mount m >/dev/null
kill %1
wait
grep -c $PWD/m /proc/mounts
)";
    const auto done = shell(
        scratch.path(),
        "exec unshare -m /bin/sh -c 'mknod fuse c 10 229 && chmod 666 fuse && "
        "mount --bind fuse /dev/fuse && exec setpriv --reuid 65534 --regid 65534 --clear-groups "
        "/bin/bash as_user.sh " +
            cli::program_directory() + "'");
    EXPECT_EQ(done.out, "hi\n65534\n65534\none\n0\nrefused\n0\n");
}

TEST_F(MountLife, TheMountIsNoPlaceForADevice) {
    Pool pool(kThree);
    Mounted mount(pool);
    ASSERT_EQ(::mkdir((mount / "d").c_str(), 0755), 0);
    const auto added =
        pool.control().post("/v1/devices", {{"spec", "x=dir:" + mount.path() + "/d"}});
    ASSERT_FALSE(added);
    EXPECT_NE(added.error().message().find("mount"), std::string::npos) << added.error().message();
}

}  // namespace
}  // namespace refault::tests
