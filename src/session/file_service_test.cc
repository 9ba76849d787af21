// Files that get mapped have no holes: a store into a mapping never finds the pool full.
#include "session/file_service.h"

#include <gtest/gtest.h>

#include "store/test_pool.h"

namespace refault::session {
namespace {

using store::testing::root;
using store::testing::user;

class NoIsolator final : public Isolator {
  public:
    Status isolate(InodeNo) override { return {}; }
};

class FileServiceTest : public ::testing::Test {
  protected:
    static constexpr std::uint64_t kSize = 300'000;

    void SetUp() override {
        pool.create(2);
        registry = std::make_unique<Registry>(*pool);
        files = std::make_unique<FileService>(*pool, *registry, isolator);
        inode = pool->create_file("/f", 0644, root())->inode;
        const auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->set_size(inode, kSize).ok());
        ASSERT_TRUE(pool->write(inode, 100'000, std::vector<std::uint8_t>(10, 5)).ok());
    }
    std::uint64_t allocated() { return pool->stat(inode)->allocated_bytes; }

    store::testing::TestPool pool;
    NoIsolator isolator;
    std::unique_ptr<Registry> registry;
    std::unique_ptr<FileService> files;
    InodeNo inode;
};

TEST_F(FileServiceTest, HolesGetSpaceBeforeAFileIsMapped) {
    for (const auto& who : {root(), user(1000)}) {
        EXPECT_LT(allocated(), kSize);
        ASSERT_TRUE(files->make_mappable(inode, who).ok());
        EXPECT_EQ(allocated(), base::align_up(kSize, base::kPageBytes));
        std::vector<std::uint8_t> bytes(10);
        ASSERT_TRUE(files->read(inode, 100'000, bytes).ok());
        EXPECT_EQ(bytes, std::vector<std::uint8_t>(10, 5));
        const auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->deallocate(inode, FileRange(0, 50'000)).ok());
    }
}

TEST_F(FileServiceTest, AFileThatHasNoRoomIsNotMapped) {
    {
        const auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->set_size(inode, 1ull << 30).ok());
    }
    const auto before = allocated();
    const auto mappable = files->make_mappable(inode, root());
    ASSERT_FALSE(mappable.ok());
    EXPECT_EQ(mappable.error().code(), base::Code::NoSpace);
    EXPECT_EQ(allocated(), before);
    pool.expect_sound();
}

TEST_F(FileServiceTest, CopiesThatHolesLackAreAskedFor) {
    pool->set_leaving(pool.id("b"), true);
    ASSERT_TRUE(pool->set_redundancy("/f", {2u, std::nullopt}, root()).error().code() ==
                base::Code::NoSpace);
    pool->set_leaving(pool.id("b"), false);
    ASSERT_TRUE(pool->set_redundancy("/f", {2u, std::nullopt}, root()).ok());
    int asked = 0;
    files->set_copies_missing_sink([&] { ++asked; });
    ASSERT_TRUE(files->make_mappable(inode, root()).ok());
    EXPECT_EQ(asked, 1);
    ASSERT_TRUE(files->make_mappable(inode, root()).ok());
    EXPECT_EQ(asked, 1) << "nothing was filled";
}

}  // namespace
}  // namespace refault::session
