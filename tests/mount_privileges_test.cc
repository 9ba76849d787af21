// Set-user-id bits of files on the mount, which go when somebody without the right to keep them
// changes the file, in the store and in what the kernel has cached; and files without a name.
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "tests/mount_support.h"

namespace refault::tests {

namespace {

constexpr uid_t kNobody = 65534;

// Done by a process of an ordinary user; true when it says so.
bool as_nobody(const std::function<bool()>& action) {
    return Child([&] {
               const bool is_nobody =
                   ::setgroups(0, nullptr) == 0 && ::setgid(kNobody) == 0 && ::setuid(kNobody) == 0;
               return is_nobody && action() ? 0 : 1;
           }).wait() == 0;
}

mode_t mode_of(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_mode & 07777;
}

bool write_to(const std::string& path, int flags) {
    const int fd = ::open(path.c_str(), O_WRONLY | flags);
    return fd >= 0 && ::pwrite(fd, "x", 1, 0) == 1 && ::close(fd) == 0;
}

class MountPrivileges : public ::testing::Test {
  protected:
    void SetUp() override {
        NEEDS_FUSE();
        if (::geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
        mounted_.emplace(pool_);
        path_ = *mounted_ / "program";
        ASSERT_EQ(::chmod(mounted_->path().c_str(), 0777), 0);
        base::UniqueFd file(::open(path_.c_str(), O_CREAT | O_RDWR, 0600));
        ASSERT_TRUE(file.valid());
        ASSERT_EQ(::pwrite(file.get(), "#!", 2, 0), 2);
        set(06777);
    }
    void set(mode_t mode) {
        ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
        ASSERT_EQ(mode_of(path_), mode);
    }
    Pool pool_{{"a=ram:64M"}};
    std::optional<Mounted> mounted_;
    std::string path_;
};

TEST_F(MountPrivileges, GoWhenAnotherUserWrites) {
    EXPECT_TRUE(as_nobody([&] { return write_to(path_, 0); }));
    EXPECT_EQ(mode_of(path_), 0777u);
    set(06777);
    EXPECT_TRUE(as_nobody([&] { return write_to(path_, O_DIRECT) || write_to(path_, 0); }));
    EXPECT_EQ(mode_of(path_), 0777u);
}

TEST_F(MountPrivileges, GoWhenAnotherUserCutsTheFile) {
    EXPECT_TRUE(as_nobody([&] { return ::truncate(path_.c_str(), 1) == 0; }));
    EXPECT_EQ(mode_of(path_), 0777u);
    set(06777);
    EXPECT_TRUE(as_nobody([&] { return ::close(::open(path_.c_str(), O_RDWR | O_TRUNC)) == 0; }));
    // The kernel is told by the thread for that.
    EXPECT_TRUE(eventually([&] { return mode_of(path_) == 0777; }));
}

TEST_F(MountPrivileges, GoWithTheOwner) {
    ASSERT_EQ(::chown(path_.c_str(), kNobody, kNobody), 0);
    EXPECT_EQ(mode_of(path_), 0777u);
}

TEST_F(MountPrivileges, StayForRootAndForGroupsThatRunNothing) {
    EXPECT_TRUE(write_to(path_, 0));
    EXPECT_EQ(mode_of(path_), 06777u);
    // Set-group-id without the right to run marks no program.
    set(02766);
    EXPECT_TRUE(as_nobody([&] { return write_to(path_, 0); }));
    EXPECT_EQ(mode_of(path_), 02766u);
}

// What the kernel shows without asking is what the pool has.
TEST_F(MountPrivileges, AreGoneInThePoolToo) {
    EXPECT_TRUE(as_nobody([&] { return write_to(path_, 0); }));
    mounted_.reset();
    mounted_.emplace(pool_);
    EXPECT_EQ(mode_of(*mounted_ / "program"), 0777u);
}

TEST_F(MountPrivileges, AFileWithoutANameIsGivenOneOrGoes) {
    const auto flags = O_TMPFILE | O_RDWR;
    base::UniqueFd file(::open(mounted_->path().c_str(), flags, 0640));
    ASSERT_TRUE(file.valid()) << ::strerror(errno);
    ASSERT_EQ(::pwrite(file.get(), "bytes", 5, 0), 5);
    struct stat status {};
    ASSERT_EQ(::fstat(file.get(), &status), 0);
    EXPECT_EQ(status.st_nlink, 0u);
    EXPECT_EQ(shell(mounted_->path(), "ls").out, "program\n");
    const auto itself = "/proc/self/fd/" + std::to_string(file.get());
    const auto name = *mounted_ / "named";
    ASSERT_EQ(::linkat(AT_FDCWD, itself.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW), 0)
        << ::strerror(errno);
    file.reset();
    EXPECT_EQ(shell(mounted_->path(), "cat named; stat -c %h,%a named").out, "bytes1,640\n");

    // One that nobody may link goes with its descriptor, and with it its space.
    const auto free_before = shell(mounted_->path(), "df --output=avail .").out;
    base::UniqueFd lost(::open(mounted_->path().c_str(), flags | O_EXCL, 0600));
    ASSERT_TRUE(lost.valid());
    ASSERT_EQ(::fallocate(lost.get(), 0, 0, 16 << 20), 0);
    const auto other = "/proc/self/fd/" + std::to_string(lost.get());
    const auto second = *mounted_ / "second";
    EXPECT_EQ(::linkat(AT_FDCWD, other.c_str(), AT_FDCWD, second.c_str(), AT_SYMLINK_FOLLOW), -1);
    EXPECT_NE(shell(mounted_->path(), "df --output=avail .").out, free_before);
    lost.reset();
    EXPECT_EQ(shell(mounted_->path(), "df --output=avail .").out, free_before);
}

}  // namespace

}  // namespace refault::tests
