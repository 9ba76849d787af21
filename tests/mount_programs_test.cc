// Packaged programs on the mount while memory goes away under them. The longer selection, with more
// programs, is tools/mount-programs.sh.
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>

#include "tests/mount_support.h"

namespace refault::tests {
namespace {

#define NEEDS_PROGRAM(name)                                      \
    if (std::system("command -v " name " >/dev/null 2>&1") != 0) \
    GTEST_SKIP() << name " is not installed"

class MountPrograms : public ::testing::Test {
  protected:
    void SetUp() override { NEEDS_FUSE(); }
    // Files made on the mount from here on have two copies.
    static void make_directory_with_copies(Pool& pool, const std::string& path) {
        pool.post("/v1/files/mkdir", {{"path", path}, {"mode", 0777}});
        pool.post("/v1/files/set", {{"path", path}, {"replicas", 2}, {"on_loss", "rollback"}});
    }
    // A device is pulled, another torn out, and pages of what the file lies on go bad.
    static void do_harm(Pool& pool, const std::string& path) {
        const auto first = place_of(pool, path, 0);
        ASSERT_NE(first.device, "") << path;
        pool.pull({first.device});
        pool.wait_for_phase(first.device, "safe");
        poison(pool, place_of(pool, path, 0, 1));
        poison(pool, place_of(pool, path, 0));
        wait_for_resync(pool);
        const auto second = place_of(pool, path, 0).device;
        yank(pool, second);
        is_gone(pool, second);
    }
};

const std::vector<std::string> kFive{"a=ram:128M", "b=ram:128M", "c=ram:128M", "d=ram:128M",
                                     "e=ram:128M"};

// Transactions, each of which moves amounts between rows, so that the sum is always the same.
constexpr const char* kTransactions =
    "sqlite3 db \"$pragma create table t(id integer primary key, amount int, pad text);"
    "with recursive n(i) as (select 1 union all select i+1 from n where i<2000) "
    "insert into t select i, 100, hex(randomblob(200)) from n;\" >/dev/null;"
    "while [ ! -e stop ]; do sqlite3 db '.timeout 20000' \"$pragma begin immediate;"
    "update t set amount=amount-1, pad=hex(randomblob(200)) where id%2=0;"
    "update t set amount=amount+1 where id%2=1; commit;\" >/dev/null && echo x >>done; done";

class MountedSqlite : public MountPrograms, public ::testing::WithParamInterface<const char*> {};

TEST_P(MountedSqlite, KeepsItsDatabaseWhileDevicesGo) {
    NEEDS_PROOF();
    NEEDS_PROGRAM("sqlite3");
    Pool pool(kFive);
    make_directory_with_copies(pool, "/d");
    Mounted mount(pool);
    const auto directory = mount / "d";
    auto pid =
        cli::start_program("/bin/bash", {"-c", "cd " + directory + " && pragma='" + GetParam() +
                                                   "' && " + kTransactions + " >log 2>&1"});
    ASSERT_TRUE(pid);
    const auto transactions = [&] {
        std::error_code failure;
        const auto size = std::filesystem::file_size(directory + "/done", failure);
        return failure ? 0 : size;
    };
    EXPECT_TRUE(eventually([&] { return transactions() > 4; }));
    do_harm(pool, "/d/db");
    const auto before = transactions();
    EXPECT_TRUE(eventually([&] { return transactions() > before + 8; }))
        << shell(directory, "cat log").out;
    EXPECT_EQ(shell(directory, "touch stop; cat log").out, "");
    int status = -1;
    EXPECT_TRUE(eventually([&] { return ::waitpid(*pid, &status, WNOHANG) == *pid; }));
    const auto checked = shell(
        directory, "sqlite3 db 'pragma integrity_check; select count(*), sum(amount) from t'");
    EXPECT_EQ(checked.out, "ok\n2000|200000\n");
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty()) << pool.get("/v1/lost").dump();
    pool.expect_sound();
}

INSTANTIATE_TEST_SUITE_P(Mount, MountedSqlite,
                         ::testing::Values("pragma journal_mode=delete;",
                                           "pragma journal_mode=wal;",
                                           "pragma mmap_size=67108864;"));

TEST_F(MountPrograms, ARepositoryIsClonedAndWholeWhileADeviceGoes) {
    NEEDS_PROOF();
    NEEDS_PROGRAM("git");
    Pool pool(kFive);
    make_directory_with_copies(pool, "/d");
    Mounted mount(pool);
    const auto directory = mount / "d";
    // Fresh, so that it is the same size everywhere.
    const auto made =
        shell(directory,
              "export HOME=$PWD GIT_CONFIG_NOSYSTEM=1; git init -q origin; cd origin; "
              "git config user.email t@example.org; git config user.name t; "
              "for i in $(seq 60); do mkdir -p s$((i%8)); head -c 30000 /dev/urandom "
              ">s$((i%8))/f$i; done; "
              "git add -A; git commit -qm one");
    ASSERT_EQ(made.status, 0) << made.out;
    const auto device = place_of(pool, "/d/origin/s1/f1", 0).device;
    auto pid = cli::start_program(
        "/bin/bash", {"-c", "cd " + directory +
                                " && for i in 1 2 3; do HOME=$PWD git clone -q "
                                "--no-hardlinks origin copy$i || exit 1; done; touch cloned"});
    ASSERT_TRUE(pid);
    yank(pool, device);
    EXPECT_TRUE(is_gone(pool, device));
    EXPECT_TRUE(eventually([&] { return std::filesystem::exists(directory + "/cloned"); }));
    ::waitpid(*pid, nullptr, 0);
    const auto checked = shell(
        directory,
        "export HOME=$PWD; for i in 1 2 3; do git -C copy$i fsck --full 2>&1; "
        "git -C copy$i status --short; diff -r --exclude=.git origin copy$i; done; rm -r copy*");
    EXPECT_EQ(checked.out, "");
    EXPECT_EQ(checked.status, 0);
    pool.expect_sound();
}

TEST_F(MountPrograms, ArchivesAndCopiesComeBackAsTheyWere) {
    NEEDS_PROGRAM("rsync");
    Pool pool(kThree);
    Mounted mount(pool);
    TemporaryDirectory outside;
    const auto done = shell(
        outside.path(),
        "mkdir t; cd t; mkdir -p a/b; echo one >a/b/one; ln a/b/one hard; ln -s a/b soft; mkfifo "
        "p; "
        "chmod 4751 a/b/one; truncate -s 8M sparse; printf x | dd of=sparse bs=1 seek=5000000 "
        "conv=notrunc status=none; head -c 3000000 /dev/urandom >big; setfattr -n user.k -v v big "
        "|| true; "
        "touch -d 2001-02-03T04:05:06.123456789 a; cd ..; tar --xattrs --sparse -cf t.tar t; "
        "cd '" +
            mount.path() + "'; tar --xattrs -xf '" + outside.path() +
            "/t.tar'; "
            "diff -r --no-dereference -x p t '" +
            outside.path() +
            "/t'; "
            "test $(stat -c %h t/hard) = 2; test $(stat -c %a t/hard) = 4751; test -p t/p; "
            "test $(stat -c %Y t/a) = 981173106; "
            "test $(du -k t/sparse | cut -f1) -lt 100; "
            "rsync -aHXS t/ r/; diff -r --no-dereference -x p t r; rsync -aHXn --itemize-changes "
            "t/ r/; "
            "cp -a --sparse=always t c; test $(du -k c/sparse | cut -f1) -lt 100; "
            "cp --sparse=never t/sparse full; test $(du -k full | cut -f1) -ge 8192; cmp full "
            "t/sparse; "
            "tar -cf again.tar t; tar -df again.tar; rm -r t r c full again.tar; ls -A");
    EXPECT_EQ(done.out, "");
    EXPECT_EQ(done.status, 0);
    pool.expect_sound();
}

}  // namespace
}  // namespace refault::tests
