// Mounts and NUMA nodes, as far as a machine lets them be tried.
#include "sys/mount.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "sys/file.h"
#include "sys/numa.h"

namespace refault::sys {
namespace {

namespace fs = std::filesystem;
using base::Code;

class Mount : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string path = "/tmp/refault-mount-test-XXXXXX";
        ASSERT_NE(::mkdtemp(path.data()), nullptr);
        path_ = path;
    }
    void TearDown() override {
        if (is_mount_point(path_)) base::discard(unmount(path_), "the removal below shows it");
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    FilesystemKind kind() {
        auto fd = open_directory(path_);
        auto found = filesystem_kind(fd->get());
        EXPECT_TRUE(found.ok());
        return *found;
    }
    std::string path_;
};

TEST_F(Mount, ComesAndGoes) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a tmpfs takes root";
    EXPECT_FALSE(is_mount_point(path_));
    ASSERT_TRUE(mount_tmpfs(path_, {8ull << 20, std::nullopt}).ok());
    EXPECT_TRUE(is_mount_point(path_));
    EXPECT_EQ(kind(), FilesystemKind::Tmpfs);
    EXPECT_EQ(fs::space(path_).capacity, 8u << 20);
    EXPECT_EQ(fs::status(path_).permissions(), fs::perms::owner_all);
    ASSERT_TRUE(unmount(path_).ok());
    EXPECT_FALSE(is_mount_point(path_));
    EXPECT_EQ(unmount(path_).error().code(), Code::Invalid);
}

TEST_F(Mount, GoesAlsoWhileAFileInItIsOpen) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a tmpfs takes root";
    ASSERT_TRUE(mount_tmpfs(path_, {8ull << 20, std::nullopt}).ok());
    const auto fd = open_directory(path_);
    ASSERT_TRUE(fd.ok());
    ASSERT_TRUE(unmount(path_).ok());
    EXPECT_FALSE(is_mount_point(path_));
}

TEST_F(Mount, WithoutTheRightIsDenied) {
    const pid_t child = ::fork();
    if (child == 0) {
        if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) ::_exit(2);
        const auto mounted = mount_tmpfs(path_, {8ull << 20, std::nullopt});
        ::_exit(!mounted && mounted.error().code() == Code::Denied ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

TEST_F(Mount, AMissingDirectoryIsNotFound) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a tmpfs takes root";
    EXPECT_EQ(mount_tmpfs(path_ + "/none", {8ull << 20, std::nullopt}).error().code(),
              Code::NotFound);
    EXPECT_FALSE(is_mount_point(path_ + "/none"));
}

TEST(FilesystemKind, TellsMemoryFromTheRest) {
    const auto kind = [](const char* path) {
        return *filesystem_kind(open_directory(path)->get());
    };
    EXPECT_EQ(kind("/proc"), FilesystemKind::Other);
    EXPECT_EQ(kind("/dev/shm"), FilesystemKind::Tmpfs);
    EXPECT_FALSE(filesystem_kind(-1).ok());
}

TEST(Numa, ListsTheNodesOnceAndInOrder) {
    const auto nodes = numa_nodes();
    ASSERT_FALSE(nodes.empty()) << "memory comes from somewhere";
    std::string text;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        EXPECT_TRUE(numa_node_exists(nodes[i]));
        if (i > 0) {
            EXPECT_LT(nodes[i - 1], nodes[i]);
        }
        text += (i == 0 ? "" : ", ") + std::to_string(nodes[i]);
    }
    EXPECT_EQ(numa_node_list(), text);
    EXPECT_FALSE(numa_node_exists(-1));
    EXPECT_FALSE(numa_node_exists(nodes.back() + 1));
    EXPECT_FALSE(numa_node_exists(1 << 20));
}

}  // namespace
}  // namespace refault::sys
