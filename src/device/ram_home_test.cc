// ram: devices: the tmpfs of their own, what takes its place without the right to mount, and that
// nothing stays behind.
#include "device/ram_home.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <fstream>

#include "device/test_support.h"
#include "sys/numa.h"

namespace refault::device {
namespace {

namespace fs = std::filesystem;
using base::Access;
using base::Code;
using testing::expect_error;
using testing::ram_spec;
using testing::TempDirectory;

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t kSize = 32ull << 20;

// The mount that the kernel lists at a path, "" when there is none.
std::string mount_line(const std::string& path) {
    std::ifstream mounts("/proc/self/mounts");
    for (std::string line; std::getline(mounts, line);)
        if (line.find(" " + path + " ") != std::string::npos) return line;
    return "";
}

std::string option_of(const std::string& line, const std::string& key) {
    const auto at = line.find(key + "=");
    return at == std::string::npos ? "" : line.substr(at, line.find_first_of(", ", at) - at);
}

class RamHome : public ::testing::Test {
  protected:
    // Every test makes its devices in a base of its own, so that it can see what stays behind.
    DeviceSpec spec(const std::string& name = "a") const {
        auto made = ram_spec(kSize, name);
        made.ram_directory = base_.path();
        return made;
    }
    bool is_clean() const { return fs::is_empty(base_.path()); }
    TempDirectory base_;
};

TEST_F(RamHome, IsATmpfsOfItsOwnThatGoesWithTheDevice) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a tmpfs takes root";
    auto device = Device::create(spec(), Uuid{});
    ASSERT_OK(device);
    const auto directory = (*device)->directory();
    EXPECT_TRUE((*device)->is_private_mount());
    EXPECT_EQ((*device)->memory_kind(), MemoryKind::Shmem);
    EXPECT_TRUE(directory.starts_with(base_.path() + "/refault-ram-")) << directory;
    struct stat status;
    ASSERT_EQ(::stat(directory.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777u, 0700u);

    const auto line = mount_line(directory);
    ASSERT_NE(line, "");
    for (const char* flag : {"nosuid", "nodev", "noexec"})
        EXPECT_NE(line.find(flag), std::string::npos) << line;
    const bool has_huge_pages = fs::exists("/sys/kernel/mm/transparent_hugepage");
    EXPECT_EQ(option_of(line, "huge"), has_huge_pages ? "huge=always" : "") << line;

    ASSERT_OK((*device)->create_segment(SegmentNo(0)));
    ASSERT_OK((*device)->write(0, Bytes(4096, 1)));
    device->reset();
    EXPECT_EQ(mount_line(directory), "");
    EXPECT_TRUE(is_clean());
}

TEST_F(RamHome, WithoutABaseItLiesInRun) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a tmpfs takes root";
    auto device = Device::create(ram_spec(kSize), Uuid{});
    ASSERT_OK(device);
    EXPECT_TRUE((*device)->directory().starts_with("/run/refault-ram-")) << (*device)->directory();
}

TEST_F(RamHome, HoldsItsWholeCapacityAndTheLabelAndNoMore) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a tmpfs takes root";
    for (const std::optional<std::uint64_t> segment_bytes :
         {std::optional<std::uint64_t>(), {64 * 1024}}) {
        auto wanted = spec();
        wanted.segment_bytes = segment_bytes;
        auto device = Device::create(wanted, Uuid{});
        ASSERT_OK(device);
        ASSERT_EQ((*device)->capacity_bytes(), kSize);
        const Bytes data((*device)->segment_bytes(), 3);
        for (std::uint32_t i = 0; i < (*device)->segment_count(); ++i) {
            ASSERT_OK((*device)->create_segment(SegmentNo(i)));
            ASSERT_OK((*device)->write(i * (*device)->segment_bytes(), data));
        }
        ASSERT_OK((*device)->write_label(testing::label_for(**device)));
        ASSERT_OK((*device)->write_label(testing::label_for(**device)));
        const auto free_bytes = (*device)->host_free_bytes();
        ASSERT_OK(free_bytes);
        EXPECT_LE(*free_bytes, 4ull << 20) << "it must not take more memory than it says";
    }
}

TEST_F(RamHome, TwoDevicesDoNotMeet) {
    auto first = Device::create(spec("a"), Uuid{});
    auto second = Device::create(spec("b"), Uuid{});
    ASSERT_OK(first);
    ASSERT_OK(second);
    EXPECT_NE((*first)->directory(), (*second)->directory());
    ASSERT_OK((*first)->create_segment(SegmentNo(0)));
    EXPECT_FALSE((*second)->has_segment(SegmentNo(0)));
}

TEST_F(RamHome, AFailedCreationLeavesNothing) {
    auto wanted = spec();
    wanted.size_bytes = 1;
    EXPECT_FALSE(Device::create(wanted, Uuid{}).ok());
    wanted = spec();
    wanted.numa_node = 1023;
    EXPECT_FALSE(Device::create(wanted, Uuid{}).ok());
    EXPECT_TRUE(is_clean());
    wanted = spec();
    wanted.ram_directory = base_.file("missing");
    expect_error(Device::create(wanted, Uuid{}), Code::NotFound, "missing");
}

TEST_F(RamHome, BindsToANodeOnRequest) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a tmpfs takes root";
    auto wanted = spec();
    wanted.numa_node = sys::numa_nodes().front();
    auto device = Device::create(wanted, Uuid{});
    if (!device && device.error().sys_errno() == EINVAL) GTEST_SKIP() << "this kernel has no NUMA";
    ASSERT_OK(device);
    const auto line = mount_line((*device)->directory());
    EXPECT_EQ(option_of(line, "mpol"), "mpol=bind:" + std::to_string(*wanted.numa_node)) << line;
}

TEST_F(RamHome, AMissingNodeNamesThoseThatAreThere) {
    auto wanted = spec();
    wanted.numa_node = 1023;
    const auto device = Device::create(wanted, Uuid{});
    expect_error(device, Code::Invalid, "no NUMA node 1023");
    expect_error(device, Code::Invalid, "one of: " + sys::numa_node_list());
}

// Without the right to mount: the base is the caller's, the mount is refused.
TEST_F(RamHome, WithoutTheRightToMountItIsADirectory) {
    if (::geteuid() != 0) GTEST_SKIP() << "giving rights up takes root";
    ASSERT_EQ(::chown(base_.path().c_str(), testing::kNobody, testing::kNobody), 0);
    const int failed_at = testing::in_nobodys_child([&] {
        auto device = Device::create(spec(), Uuid{});
        if (!device) return 1;
        if ((*device)->is_private_mount()) return 2;
        if ((*device)->memory_kind() != MemoryKind::Shmem) return 3;
        struct stat status;
        if (::stat((*device)->directory().c_str(), &status) != 0 ||
            (status.st_mode & 07777u) != 0700)
            return 4;
        if (!(*device)->create_segment(SegmentNo(3)).ok()) return 5;
        if (!(*device)->write(3 * (*device)->segment_bytes(), Bytes(100, 1)).ok()) return 6;
        if (!(*device)->write_label(testing::label_for(**device)).ok()) return 7;
        return fs::is_empty(base_.path()) ? 8 : 0;
    });
    EXPECT_EQ(failed_at, 0);
    for (const auto& entry : fs::directory_iterator(base_.path()))
        ADD_FAILURE() << entry << " stays behind";
}

TEST_F(RamHome, WithoutAPlaceToMountAtItLiesInSharedMemory) {
    if (::geteuid() != 0) GTEST_SKIP() << "giving rights up takes root";
    const int failed_at = testing::in_nobodys_child([] {
        auto device = Device::create(ram_spec(kSize), Uuid{});
        if (!device) return 1;
        return (*device)->directory().starts_with("/dev/shm/refault-ram-") ? 0 : 2;
    });
    EXPECT_EQ(failed_at, 0);
}

TEST_F(RamHome, ANodeWithoutTheRightToMountIsNotSupported) {
    if (::geteuid() != 0) GTEST_SKIP() << "giving rights up takes root";
    ASSERT_EQ(::chown(base_.path().c_str(), testing::kNobody, testing::kNobody), 0);
    const int failed_at = testing::in_nobodys_child([&] {
        auto wanted = spec();
        wanted.numa_node = sys::numa_nodes().front();
        const auto device = Device::create(wanted, Uuid{});
        if (device) return 1;
        if (device.error().code() != Code::NotSupported) return 2;
        return device.error().message().find("run the daemon as root") != std::string::npos ? 0 : 3;
    });
    EXPECT_EQ(failed_at, 0);
    EXPECT_TRUE(is_clean());
}

// A daemon that is killed: a child that makes the device, says so and waits to be ended.
class DoomedDaemon {
  public:
    explicit DoomedDaemon(const DeviceSpec& spec, bool is_nobody) {
        int ends[2];
        EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        pid_ = ::fork();
        if (pid_ == 0) {
            if (is_nobody && ::setresuid(testing::kNobody, testing::kNobody, testing::kNobody) != 0)
                ::_exit(1);
            auto device = Device::create(spec, Uuid{});
            char answer = 'n';
            if (device && (*device)->create_segment(SegmentNo(0)).ok() &&
                (*device)->write(0, Bytes(4096, 9)).ok() &&
                (*device)->write_label(testing::label_for(**device)).ok())
                answer = 'y';
            if (::write(ends[1], &answer, 1) == 1)
                while (true) ::pause();
            ::_exit(1);
        }
        ::close(ends[1]);
        EXPECT_EQ(::read(ends[0], &answer_, 1), 1);
        ::close(ends[0]);
    }
    ~DoomedDaemon() { kill(); }
    bool is_ready() const { return answer_ == 'y'; }
    void kill() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

  private:
    pid_t pid_ = -1;
    char answer_ = '?';
};

std::vector<std::string> homes_in(const std::string& base) {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(base)) found.push_back(entry.path());
    return found;
}

TEST_F(RamHome, WhatAKilledDaemonLeavesIsRemovedByTheNext) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a tmpfs takes root";
    DoomedDaemon daemon(spec(), /*is_nobody=*/false);
    ASSERT_TRUE(daemon.is_ready());
    const auto left = homes_in(base_.path());
    ASSERT_EQ(left.size(), 1u);
    { ASSERT_OK(Device::create(spec(), Uuid{})); }
    EXPECT_EQ(homes_in(base_.path()), left) << "a daemon that runs keeps its device";

    daemon.kill();
    EXPECT_NE(mount_line(left[0]), "") << "this is what the next one has to remove";
    auto next = Device::create(spec(), Uuid{});
    ASSERT_OK(next);
    EXPECT_EQ(mount_line(left[0]), "");
    EXPECT_EQ(homes_in(base_.path()), std::vector<std::string>{(*next)->directory()});
}

TEST_F(RamHome, APlainDirectoryOfAKilledDaemonIsRemovedToo) {
    if (::geteuid() != 0) GTEST_SKIP() << "giving rights up takes root";
    ASSERT_EQ(::chown(base_.path().c_str(), testing::kNobody, testing::kNobody), 0);
    DoomedDaemon daemon(spec(), /*is_nobody=*/true);
    ASSERT_TRUE(daemon.is_ready());
    daemon.kill();
    ASSERT_EQ(homes_in(base_.path()).size(), 1u);
    remove_dead_ram_homes(base_.path());
    EXPECT_EQ(homes_in(base_.path()).size(), 1u) << "another user's is left alone";
    EXPECT_EQ(testing::in_nobodys_child([&] { return remove_dead_ram_homes(base_.path()), 0; }), 0);
    EXPECT_TRUE(is_clean());
}

// Rule 9: programs keep what they have mapped.
TEST_F(RamHome, RemovalLeavesMappingsAlone) {
    auto device = Device::create(spec(), Uuid{});
    ASSERT_OK(device);
    ASSERT_OK((*device)->create_segment(SegmentNo(0)));
    ASSERT_OK((*device)->write(0, Bytes(4096, 9)));
    const auto fd = (*device)->open_segment(SegmentNo(0), Access::Read);
    ASSERT_OK(fd);
    auto* mapped = static_cast<const volatile std::uint8_t*>(
        ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd->get(), 0));
    ASSERT_NE(mapped, MAP_FAILED);
    device->reset();
    EXPECT_EQ(mapped[4095], 9);
    ::munmap(const_cast<std::uint8_t*>(mapped), 4096);
    EXPECT_TRUE(is_clean());
}

TEST_F(RamHome, OnlyDeadHomesAreRemoved) {
    const auto make = [&](const std::string& name, bool has_label, bool has_lock) {
        fs::create_directory(base_.file(name));
        if (has_label) std::ofstream(base_.file(name) + "/label") << "x";
        if (has_lock) std::ofstream(base_.file(name) + "/lock") << "";
    };
    make("refault-ram-starting", false, true);
    make("refault-ram-empty", false, false);
    make("refault-other", true, true);
    make("refault-ram-dead", true, true);
    make("refault-ram-target", true, true);
    fs::rename(base_.file("refault-ram-target"), base_.file("target"));
    fs::create_symlink(base_.file("target"), base_.file("refault-ram-link"));
    remove_dead_ram_homes(base_.path());
    EXPECT_TRUE(fs::exists(base_.file("refault-ram-starting")));
    EXPECT_TRUE(fs::exists(base_.file("refault-ram-empty")));
    EXPECT_TRUE(fs::exists(base_.file("refault-other")));
    EXPECT_TRUE(fs::exists(base_.file("target") + "/label")) << "removed through a symbolic link";
    EXPECT_FALSE(fs::exists(base_.file("refault-ram-dead")));
}

}  // namespace
}  // namespace refault::device
