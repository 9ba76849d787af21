// What the machine's own tools do with the mount: mount(8) and umount(8), a line of fstab, handles
// of files as a server of NFS uses them, swapon.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/swap.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "tests/mount_support.h"

namespace refault::tests {
namespace {

class MountHelper : public ::testing::Test {
  protected:
    void SetUp() override {
        NEEDS_FUSE();
        if (::geteuid() != 0) GTEST_SKIP() << "takes root";
    }
    // Lines of shell in a mount namespace of their own, with a daemon of their own, in which
    // mount(8) finds the helper where it looks for helpers, and nothing of the machine is changed.
    CommandResult run(const std::string& lines) {
        const auto& scratch = scratch_.path();
        for (const auto* name :
             {"/m", "/looked-in", "/installed", "/installed/sbin", "/installed/bin"})
            EXPECT_EQ(::mkdir((scratch + name).c_str(), 0755), 0);
        const auto helper = scratch + "/installed/sbin/mount.fuse.refault";
        std::filesystem::copy_file(REFAULT_SOURCE_DIRECTORY "/tools/mount.fuse.refault", helper);
        std::filesystem::create_symlink(helper, scratch + "/looked-in/mount.fuse.refault");
        std::filesystem::create_symlink(cli::program_directory() + "/refault",
                                        scratch + "/installed/bin/refault");
        std::ofstream(scratch + "/script") << R"(
M=$PWD/m
export PATH=)" << cli::program_directory() << R"(:/usr/bin:/bin REFAULT_RUN_DIR=$PWD/run
: >log
mount --make-rprivate / && mount --bind looked-in /sbin
refaultd --create p --device a=ram:32M --device b=ram:32M >log 2>&1 &
until grep -q ready log; do kill -0 %1 || exit 1; done
options() { grep " $M " /proc/self/mounts | cut -d ' ' -f 1,3; }
)" << lines << R"(
kill %1
wait
options
)";
        return shell(scratch, "exec unshare -m /bin/bash script");
    }

    TemporaryDirectory scratch_;
};

TEST_F(MountHelper, MountAndUmount) {
    const auto done = run(R"(
mount -t fuse.refault p $M -o noexec,patience_ms=5000
echo hi >$M/f
cat $M/f
options
refault mounts | grep -o noexec
umount $M && ls $M | wc -l
mount -t fuse.refault other $M 2>/dev/null || echo another pool
mount -t fuse.refault p $M -o nonsense 2>/dev/null || echo nonsense
mount -f -t fuse.refault p $M && options
)");
    EXPECT_EQ(done.out, "hi\np fuse.refault\nnoexec\n0\nanother pool\nnonsense\n");
}

TEST_F(MountHelper, ALineOfFstab) {
    const auto done = run(R"(
echo "p $M fuse.refault defaults,nofail,ro,x-systemd.requires=refaultd.service 0 0" >fstab
mount -T fstab $M && options
touch $M/f 2>/dev/null || echo read-only
umount $M
mount -T fstab -a && options
mount -T fstab -a && options
umount -l $M
until ! refault mounts | grep -q $M; do :; done
mount -T fstab $M && options
)");
    EXPECT_EQ(done.out,
              "p fuse.refault\nread-only\np fuse.refault\np fuse.refault\np fuse.refault\n");
}

// Who has something open keeps the mount; lazily it goes out of sight, and ends when they are done.
TEST_F(MountHelper, UmountWhileItIsInUse) {
    const auto done = run(R"(
mount -t fuse.refault p $M
exec 3<>$M/f
umount $M 2>/dev/null || echo busy
refault umount $M 2>/dev/null || echo busy
echo one >&3 && cat $M/f
umount -l $M && ls $M | wc -l
echo two >&3 && cat /proc/self/fd/3
refault mounts | wc -l
exec 3>&-
until ! refault mounts | grep -q $M; do :; done
mount -t fuse.refault p $M && cat $M/f
exec 3<>$M/f
refault umount $M --force && ls $M | wc -l
echo three 2>/dev/null >&3 || echo gone
refault cat /f
)");
    EXPECT_EQ(done.out, "busy\nbusy\none\n0\none\ntwo\n1\none\ntwo\n0\ngone\none\ntwo\n");
}

// A mount that is not seen where it was asked for would leave programs writing into the directory
// under it.
TEST_F(MountHelper, FromAnotherMountNamespaceItIsRefused) {
    const auto done = run(R"(
unshare -m refault mount $M 2>&1 | grep -c 'another mount namespace'
options
refault mounts
mount -t fuse.refault p $M -o ro,run_dir=$PWD/run,noexec && refault mounts | grep -c noexec
mount -o remount,rw $M 2>&1 | grep -c 'mount it anew'
refault umount $M)");
    EXPECT_EQ(done.out, "1\nthe pool is mounted nowhere\n1\n1\n") << done.err;
}

TEST_F(MountHelper, AMountWhoseDaemonIsGoneIsSaidToBeThere) {
    const auto done = run(R"(
refault mount $M >/dev/null
kill -9 %1
wait 2>/dev/null
refaultd --create q --device a=ram:32M >log2 2>&1 &
until grep -qs ready log2; do kill -0 %1 || exit 1; done
refault mount $M 2>&1 | grep -c "umount -l $M"
umount -l $M
refault mount $M >/dev/null && ls $M | wc -l)");
    EXPECT_EQ(done.out, "1\n0\n") << done.err;
}

TEST_F(MountHelper, NoSwapping) {
    Pool pool(kThree);
    Mounted mount(pool);
    ASSERT_EQ(
        shell(mount.path(), "fallocate -l 4M swap && chmod 600 swap && /usr/sbin/mkswap -q swap")
            .status,
        0);
    const int swapped = ::swapon((mount / "swap").c_str(), 0);
    EXPECT_EQ(swapped, -1);
    EXPECT_EQ(errno, EINVAL);
    if (swapped == 0) ::swapoff((mount / "swap").c_str());
}

// A name of a file as a server of NFS hands it out, which outlives mounts.
class Handle {
  public:
    explicit Handle(const std::string& path) {
        int mount_id = 0;
        EXPECT_EQ(::name_to_handle_at(AT_FDCWD, path.c_str(), &header_, &mount_id, 0), 0);
    }
    base::UniqueFd open(const Mounted& mount, int flags = O_RDONLY) {
        const base::UniqueFd place(::open(mount.path().c_str(), O_DIRECTORY | O_CLOEXEC));
        return base::UniqueFd(::open_by_handle_at(place.get(), &header_, flags | O_CLOEXEC));
    }

  private:
    file_handle header_{MAX_HANDLE_SZ, 0, {}};
    unsigned char bytes_[MAX_HANDLE_SZ];
};

TEST_F(MountHelper, HandlesOfFilesOutliveTheMount) {
    Pool pool(kThree);
    Mounted mount(pool);
    ASSERT_EQ(shell(mount.path(), "mkdir -p d/e; echo -n hi >d/e/f; touch gone").status, 0);
    Handle file(mount / "d/e/f"), directory(mount / "d/e"), gone(mount / "gone");
    EXPECT_TRUE(file.open(mount)) << std::strerror(errno);
    // The kernel forgets everything.
    ASSERT_EQ(run_refault(pool, {"umount", mount.path()}).status, 0);
    pool.post("/v1/mounts", {{"directory", mount.path()}});
    const auto opened = file.open(mount, O_RDWR);
    ASSERT_TRUE(opened) << std::strerror(errno);
    char bytes[3] = {};
    EXPECT_EQ(::read(opened.get(), bytes, 2), 2);
    EXPECT_STREQ(bytes, "hi");
    const auto beside = directory.open(mount, O_DIRECTORY);
    ASSERT_TRUE(beside) << std::strerror(errno);
    EXPECT_EQ(std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(beside.get())),
              mount / "d/e");
    ASSERT_EQ(::unlink((mount / "gone").c_str()), 0);
    EXPECT_FALSE(gone.open(mount));
    EXPECT_EQ(errno, ESTALE);
    pool.expect_sound();
}

}  // namespace
}  // namespace refault::tests
