// What programs expect of a filesystem, by system calls on a real mount.
#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <cerrno>
#include <set>

#include "base/unique_fd.h"
#include "tests/mount_support.h"

namespace refault::tests {
namespace {

using base::UniqueFd;

UniqueFd open_file(const std::string& path, int flags, mode_t mode = 0644) {
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
    EXPECT_TRUE(fd) << path << ": " << std::strerror(errno);
    return fd;
}

void write_file(const std::string& path, const std::string& bytes) {
    auto fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
    EXPECT_EQ(::write(fd.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
}

std::string read_file(const std::string& path) {
    auto fd = open_file(path, O_RDONLY);
    std::string bytes(1 << 20, 0);
    const auto got = ::read(fd.get(), bytes.data(), bytes.size());
    bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return bytes;
}

struct stat stat_of(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path << ": " << std::strerror(errno);
    return status;
}

// The errno of a call that has to fail.
#define EXPECT_FAILS(call, error)  \
    do {                           \
        errno = 0;                 \
        EXPECT_EQ((call), -1);     \
        EXPECT_EQ(errno, (error)); \
    } while (false)

class MountPosix : public ::testing::Test {
  protected:
    void SetUp() override { NEEDS_FUSE(); }
    Pool& pool() {
        if (!pool_) pool_ = std::make_unique<Pool>(kThree);
        return *pool_;
    }
    Mounted& mount() {
        if (!mount_) mount_ = std::make_unique<Mounted>(pool());
        return *mount_;
    }
    std::string at(const std::string& name) { return mount() / name; }
    void TearDown() override {
        if (pool_) pool_->expect_sound();
    }

  private:
    std::unique_ptr<Pool> pool_;
    std::unique_ptr<Mounted> mount_;
};

TEST_F(MountPosix, HardLinksAreOneFileUntilTheLastIsGone) {
    write_file(at("a"), "text");
    ASSERT_EQ(::link(at("a").c_str(), at("b").c_str()), 0);
    EXPECT_EQ(stat_of(at("a")).st_ino, stat_of(at("b")).st_ino);
    EXPECT_EQ(stat_of(at("a")).st_nlink, 2u);
    write_file(at("b"), "other");
    EXPECT_EQ(read_file(at("a")), "other");
    ASSERT_EQ(::unlink(at("a").c_str()), 0);
    EXPECT_EQ(stat_of(at("b")).st_nlink, 1u);
    EXPECT_EQ(read_file(at("b")), "other");
    ASSERT_EQ(::mkdir(at("d").c_str(), 0755), 0);
    EXPECT_FAILS(::link(at("d").c_str(), at("e").c_str()), EPERM);
}

TEST_F(MountPosix, AnUnlinkedFileLivesWhileItIsOpen) {
    write_file(at("f"), "before");
    auto fd = open_file(at("f"), O_RDWR);
    ASSERT_EQ(::unlink(at("f").c_str()), 0);
    EXPECT_FAILS(::access(at("f").c_str(), F_OK), ENOENT);
    EXPECT_EQ(::pwrite(fd.get(), "after!", 6, 0), 6);
    char bytes[8] = {};
    EXPECT_EQ(::pread(fd.get(), bytes, 6, 0), 6);
    EXPECT_STREQ(bytes, "after!");
    struct stat status {};
    EXPECT_EQ(::fstat(fd.get(), &status), 0);
    EXPECT_EQ(status.st_nlink, 0u);
    const auto used = pool().get("/v1/status").value("data_bytes", 0ull);
    EXPECT_GT(used, 0u);
    fd.reset();
    // Its space comes back.
    EXPECT_TRUE(
        eventually([&] { return pool().get("/v1/status").value("data_bytes", 1ull) == 0; }));
}

TEST_F(MountPosix, LinksFifosAndSocketsAreNodes) {
    ASSERT_EQ(::symlink("no/such/place", at("s").c_str()), 0);
    char target[64] = {};
    EXPECT_EQ(::readlink(at("s").c_str(), target, sizeof target), 13);
    EXPECT_STREQ(target, "no/such/place");
    EXPECT_TRUE(S_ISLNK(stat_of(at("s")).st_mode));
    EXPECT_EQ(stat_of(at("s")).st_size, 13);
    ASSERT_EQ(::mkfifo(at("p").c_str(), 0600), 0);
    EXPECT_TRUE(S_ISFIFO(stat_of(at("p")).st_mode));
    auto reader = open_file(at("p"), O_RDONLY | O_NONBLOCK);
    auto writer = open_file(at("p"), O_WRONLY);
    EXPECT_EQ(::write(writer.get(), "x", 1), 1);
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s", at("u").c_str());
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_TRUE(S_ISSOCK(stat_of(at("u")).st_mode));
    if (::geteuid() == 0) {
        ASSERT_EQ(::mknod(at("n").c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
        EXPECT_EQ(stat_of(at("n")).st_rdev, makedev(1, 3));
    }
}

TEST_F(MountPosix, RenameKnowsItsFlags) {
    write_file(at("a"), "a");
    write_file(at("b"), "b");
    EXPECT_FAILS(
        ::renameat2(AT_FDCWD, at("a").c_str(), AT_FDCWD, at("b").c_str(), RENAME_NOREPLACE),
        EEXIST);
    ASSERT_EQ(::renameat2(AT_FDCWD, at("a").c_str(), AT_FDCWD, at("b").c_str(), RENAME_EXCHANGE),
              0);
    EXPECT_EQ(read_file(at("a")), "b");
    EXPECT_EQ(read_file(at("b")), "a");
    EXPECT_FAILS(::renameat2(AT_FDCWD, at("a").c_str(), AT_FDCWD, at("b").c_str(), RENAME_WHITEOUT),
                 EINVAL);
    auto kept = open_file(at("b"), O_RDONLY);
    ASSERT_EQ(::rename(at("a").c_str(), at("b").c_str()), 0);
    EXPECT_EQ(read_file(at("b")), "b");
    char byte = 0;
    EXPECT_EQ(::read(kept.get(), &byte, 1), 1);
    EXPECT_EQ(byte, 'a') << "who has the replaced file open keeps it";
    ASSERT_EQ(::mkdir(at("d").c_str(), 0755), 0);
    ASSERT_EQ(::mkdir(at("d/e").c_str(), 0755), 0);
    EXPECT_FAILS(::rename(at("d").c_str(), at("d/e/f").c_str()), EINVAL);
    ASSERT_EQ(::mkdir(at("g").c_str(), 0755), 0);
    EXPECT_FAILS(::rename(at("g").c_str(), at("d").c_str()), ENOTEMPTY);
    EXPECT_FAILS(::rename(at("g").c_str(), at("b").c_str()), ENOTDIR);
    EXPECT_FAILS(::rename(at("b").c_str(), at("g").c_str()), EISDIR);
    EXPECT_FAILS(::rmdir(at("d").c_str()), ENOTEMPTY);
    EXPECT_FAILS(::rmdir(at("b").c_str()), ENOTDIR);
    EXPECT_FAILS(::unlink(at("g").c_str()), EISDIR);
}

TEST_F(MountPosix, NamesAreAnyBytesUpTo255) {
    const std::string longest(255, 'n'), too_long(256, 'n'), odd("\x01\n\\\xff\xfe *");
    write_file(at(longest), "1");
    write_file(at(odd), "2");
    EXPECT_EQ(read_file(at(odd)), "2");
    EXPECT_FAILS(::open(at(too_long).c_str(), O_CREAT | O_WRONLY, 0600), ENAMETOOLONG);
    std::set<std::string> seen;
    DIR* directory = ::opendir(mount().path().c_str());
    ASSERT_NE(directory, nullptr);
    while (const auto* entry = ::readdir(directory)) seen.insert(entry->d_name);
    ::closedir(directory);
    EXPECT_EQ(seen, (std::set<std::string>{".", "..", longest, odd}));
}

TEST_F(MountPosix, ALargeDirectoryIsListedOnceAndWholeWhileItChanges) {
    constexpr int kNames = 5000;
    ASSERT_EQ(::mkdir(at("d").c_str(), 0755), 0);
    for (int i = 0; i < kNames; ++i) write_file(at("d/f" + std::to_string(i)), "");
    std::multiset<std::string> seen;
    DIR* directory = ::opendir(at("d").c_str());
    ASSERT_NE(directory, nullptr);
    while (const auto* entry = ::readdir(directory)) {
        seen.insert(entry->d_name);
        // What was seen goes; what is made meanwhile may be seen or not.
        if (entry->d_name[0] != 'f') continue;
        EXPECT_EQ(::unlink(at("d/" + std::string(entry->d_name)).c_str()), 0);
    }
    ::closedir(directory);
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(kNames + 2));
    EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), seen.size());
    EXPECT_EQ(::rmdir(at("d").c_str()), 0) << std::strerror(errno);
}

TEST_F(MountPosix, TheKernelChecksPermissions) {
    if (::geteuid() != 0) GTEST_SKIP() << "takes root to be somebody else";
    write_file(at("secret"), "x");
    ASSERT_EQ(::chmod(at("secret").c_str(), 0600), 0);
    ASSERT_EQ(::mkdir(at("open").c_str(), 0777), 0);
    ASSERT_EQ(::chmod(at("open").c_str(), 02777), 0);
    ASSERT_EQ(::chown(at("open").c_str(), 0, 4321), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)
            ::_exit(1);
        if (::open(at("secret").c_str(), O_RDONLY) >= 0 || errno != EACCES) ::_exit(2);
        if (::open(at("open/mine").c_str(), O_CREAT | O_WRONLY, 0666) < 0) ::_exit(3);
        if (::chmod(at("secret").c_str(), 0666) == 0 || errno != EPERM) ::_exit(4);
        if (::rename(at("secret").c_str(), at("open/stolen").c_str()) == 0) ::_exit(5);
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_EQ(stat_of(at("open/mine")).st_uid, 65534u);
    EXPECT_EQ(stat_of(at("open/mine")).st_gid, 4321u) << "of the set-group-id directory";
}

TEST_F(MountPosix, TimesAreKeptToTheNanosecond) {
    write_file(at("f"), "x");
    const timespec times[2] = {{1'000'000'000, 123'456'789}, {1'500'000'000, 987'654'321}};
    ASSERT_EQ(::utimensat(AT_FDCWD, at("f").c_str(), times, 0), 0);
    EXPECT_EQ(stat_of(at("f")).st_atim.tv_nsec, 123'456'789);
    EXPECT_EQ(stat_of(at("f")).st_mtim.tv_sec, 1'500'000'000);
    EXPECT_EQ(stat_of(at("f")).st_mtim.tv_nsec, 987'654'321);
    auto fd = open_file(at("f"), O_WRONLY);
    ASSERT_EQ(::write(fd.get(), "y", 1), 1);
    EXPECT_GT(stat_of(at("f")).st_mtim.tv_sec, 1'500'000'000);
}

TEST_F(MountPosix, HolesArePunchedZeroedAndFound) {
    constexpr off_t kStep = 64 * 1024;
    auto fd = open_file(at("f"), O_RDWR | O_CREAT);
    ASSERT_EQ(::ftruncate(fd.get(), 4 * kStep), 0);
    EXPECT_EQ(stat_of(at("f")).st_blocks, 0) << "growing takes nothing";
    const std::string block(kStep, 'x');
    ASSERT_EQ(::pwrite(fd.get(), block.data(), block.size(), 2 * kStep), kStep);
    EXPECT_EQ(stat_of(at("f")).st_blocks * 512, kStep);
    EXPECT_EQ(::lseek(fd.get(), 0, SEEK_DATA), 2 * kStep);
    EXPECT_EQ(::lseek(fd.get(), 2 * kStep, SEEK_HOLE), 3 * kStep);
    EXPECT_EQ(::lseek(fd.get(), 0, SEEK_HOLE), 0);
    EXPECT_FAILS(::lseek(fd.get(), 3 * kStep, SEEK_DATA), ENXIO);
    // With odd ends: whole pages go, the rest is zeroed.
    ASSERT_EQ(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * kStep + 100,
                          kStep / 2),
              0);
    std::string bytes(kStep, 0);
    ASSERT_EQ(::pread(fd.get(), bytes.data(), bytes.size(), 2 * kStep), kStep);
    EXPECT_EQ(bytes, std::string(100, 'x') + std::string(kStep / 2, '\0') +
                         std::string(kStep / 2 - 100, 'x'));
    ASSERT_EQ(::fallocate(fd.get(), FALLOC_FL_ZERO_RANGE, 3 * kStep, 2 * kStep), 0);
    EXPECT_EQ(stat_of(at("f")).st_size, 5 * kStep);
    EXPECT_EQ(::lseek(fd.get(), 3 * kStep, SEEK_DATA), 3 * kStep) << "zeroed, and there";
    ASSERT_EQ(::fallocate(fd.get(), 0, 0, 5 * kStep), 0);
    EXPECT_EQ(::lseek(fd.get(), 0, SEEK_DATA), 0);
    EXPECT_EQ(stat_of(at("f")).st_blocks * 512, 5 * kStep);
    EXPECT_FAILS(::fallocate(fd.get(), FALLOC_FL_COLLAPSE_RANGE, 0, kStep), EOPNOTSUPP);
    ASSERT_EQ(::ftruncate(fd.get(), kStep), 0);
    EXPECT_EQ(stat_of(at("f")).st_blocks * 512, kStep);
}

TEST_F(MountPosix, WhatWasCutOffComesBackAsZeros) {
    auto fd = open_file(at("f"), O_RDWR | O_CREAT);
    const std::string block(10'000, 'x');
    ASSERT_EQ(::write(fd.get(), block.data(), block.size()), 10'000);
    ASSERT_EQ(::ftruncate(fd.get(), 5000), 0);
    ASSERT_EQ(::ftruncate(fd.get(), 10'000), 0);
    EXPECT_EQ(read_file(at("f")), std::string(5000, 'x') + std::string(5000, '\0'));
    auto again = open_file(at("f"), O_RDWR | O_TRUNC);
    EXPECT_EQ(stat_of(at("f")).st_size, 0);
}

TEST_F(MountPosix, CopiesInsideThePoolAreRight) {
    std::string bytes(3'000'000, 0);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + i / 4096);
    write_file(at("from"), bytes);
    auto from = open_file(at("from"), O_RDONLY);
    auto to = open_file(at("to"), O_RDWR | O_CREAT);
    off64_t from_at = 1000, to_at = 500;
    std::size_t left = 2'500'000;
    while (left > 0) {
        const auto copied = ::copy_file_range(from.get(), &from_at, to.get(), &to_at, left, 0);
        ASSERT_GT(copied, 0) << std::strerror(errno);
        left -= static_cast<std::size_t>(copied);
    }
    std::string got(2'500'000, 0);
    ASSERT_EQ(::pread(to.get(), got.data(), got.size(), 500), static_cast<ssize_t>(got.size()));
    EXPECT_TRUE(got == bytes.substr(1000, got.size()));
}

TEST_F(MountPosix, ExtendedAttributes) {
    write_file(at("f"), "");
    const auto path = at("f");
    EXPECT_FAILS(static_cast<int>(::getxattr(path.c_str(), "user.none", nullptr, 0)), ENODATA);
    ASSERT_EQ(::setxattr(path.c_str(), "user.a", "value", 5, XATTR_CREATE), 0);
    EXPECT_FAILS(::setxattr(path.c_str(), "user.a", "value", 5, XATTR_CREATE), EEXIST);
    EXPECT_FAILS(::setxattr(path.c_str(), "user.b", "value", 5, XATTR_REPLACE), ENODATA);
    ASSERT_EQ(::setxattr(path.c_str(), "user.a", "other!", 6, XATTR_REPLACE), 0);
    char value[16] = {};
    EXPECT_EQ(::getxattr(path.c_str(), "user.a", nullptr, 0), 6);
    EXPECT_FAILS(static_cast<int>(::getxattr(path.c_str(), "user.a", value, 3)), ERANGE);
    EXPECT_EQ(::getxattr(path.c_str(), "user.a", value, sizeof value), 6);
    EXPECT_STREQ(value, "other!");
    EXPECT_EQ(::listxattr(path.c_str(), value, sizeof value), 7);
    EXPECT_STREQ(value, "user.a");
    ASSERT_EQ(::removexattr(path.c_str(), "user.a"), 0);
    EXPECT_EQ(::listxattr(path.c_str(), nullptr, 0), 0);
    // An access list that gives user 1 more than the permission bits say.
    const std::uint32_t list[] = {2,   0x60001, ~0u, 0x60002, 1,  0x40004,
                                  ~0u, 0x60010, ~0u, 0x40020, ~0u};
    EXPECT_FAILS(::setxattr(path.c_str(), "system.posix_acl_access", list, sizeof list, 0),
                 EOPNOTSUPP);
}

TEST_F(MountPosix, LocksHoldBetweenProcesses) {
    write_file(at("f"), "0123456789");
    auto fd = open_file(at("f"), O_RDWR);
    struct flock part {};
    part.l_type = F_WRLCK;
    part.l_whence = SEEK_SET;
    part.l_start = 2;
    part.l_len = 3;
    ASSERT_EQ(::fcntl(fd.get(), F_SETLK, &part), 0);
    auto whole = open_file(at("f"), O_RDWR);
    ASSERT_EQ(::flock(whole.get(), LOCK_EX), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        const int mine = ::open(at("f").c_str(), O_RDWR);
        if (::fcntl(mine, F_SETLK, &part) == 0) ::_exit(1);
        part.l_start = 5;
        if (::fcntl(mine, F_SETLK, &part) != 0) ::_exit(2);
        if (::flock(mine, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) ::_exit(3);
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(MountPosix, MappedFilesAreSharedOrPrivate) {
    write_file(at("f"), std::string(kFileBytes, 'a'));
    SharedFiler one(at("f")), other(at("f"));
    Filer apart(at("f"), "write");
    ASSERT_EQ(apart.say("map private"), "ok");
    EXPECT_EQ(one.store(kPage, 'b'), "ok");
    EXPECT_EQ(other.load(kPage), "ok 98");
    EXPECT_EQ(other.pread(kPage), "ok 98");
    EXPECT_EQ(apart.store(2 * kPage, 'c'), "ok");
    EXPECT_EQ(other.load(2 * kPage), "ok 97");
    EXPECT_EQ(other.pwrite(3 * kPage, 'd'), "ok");
    EXPECT_EQ(one.load(3 * kPage), "ok 100");
    EXPECT_EQ(one.say("msync"), "ok");
    // Behind the kernel's back: what is in the pool itself.
    const auto bytes = pool().control().get_bytes("/v1/files/data?path=/f&offset=4096&length=1");
    ASSERT_TRUE(bytes);
    EXPECT_EQ(*bytes, "b");
}

TEST_F(MountPosix, DirectAndSynchronousWritesArrive) {
    write_file(at("f"), std::string(kFileBytes, 'a'));
    Filer direct(at("f"), "direct"), synchronous(at("f"), "sync"), reader(at("f"), "read");
    ASSERT_EQ(direct.greeting(), "ready");
    EXPECT_EQ(reader.pread(0, kFileBytes), "ok 97");
    EXPECT_EQ(direct.pwrite(0, 'b', 8 * kPage), "ok");
    EXPECT_EQ(reader.pread(0, 8 * kPage), "ok 98");
    EXPECT_EQ(synchronous.pwrite(8 * kPage, 'c', kPage), "ok");
    EXPECT_EQ(direct.pread(8 * kPage), "ok 99");
    EXPECT_EQ(direct.say("fsync"), "ok");
}

TEST_F(MountPosix, WhatIsFreeIsTrue) {
    struct statvfs before {
    }, after{};
    ASSERT_EQ(::statvfs(mount().path().c_str(), &before), 0);
    write_file(at("f"), std::string(8u << 20, 'x'));
    ASSERT_EQ(::statvfs(mount().path().c_str(), &after), 0);
    EXPECT_NEAR(static_cast<double>((before.f_bfree - after.f_bfree) * before.f_frsize), 8 << 20,
                4 << 20);
    EXPECT_EQ(before.f_namemax, 255u);
    ASSERT_EQ(::unlink(at("f").c_str()), 0);
    EXPECT_TRUE(eventually([&] {
        return ::statvfs(mount().path().c_str(), &after) == 0 && before.f_bfree == after.f_bfree;
    }));
}

TEST_F(MountPosix, InodesAreUniqueAndStayOverARemount) {
    write_file(at("a"), "");
    write_file(at("b"), "");
    const auto a = stat_of(at("a")).st_ino;
    EXPECT_NE(a, stat_of(at("b")).st_ino);
    ASSERT_EQ(::unlink(at("b").c_str()), 0);
    write_file(at("c"), "");
    EXPECT_NE(stat_of(at("c")).st_ino, a);
    pool().post("/v1/unmount", {{"directory", mount().path()}});
    pool().post("/v1/mounts", {{"directory", mount().path()}});
    EXPECT_EQ(stat_of(at("a")).st_ino, a);
}

}  // namespace
}  // namespace refault::tests
