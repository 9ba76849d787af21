// Cached or direct: which of the two an open becomes, and what a claim finds.
#include "mount/open_inodes.h"

#include <gtest/gtest.h>

#include "session/registry.h"
#include "store/test_pool.h"

namespace refault::mount {
namespace {

class OpenInodesTest : public ::testing::Test {
  protected:
    void SetUp() override {
        pool_.create(2);
        store_ = &*pool_;
        registry_ = std::make_unique<session::Registry>(*store_);
        tree_ = std::make_unique<store::Tree>(*store_);
        opens_ = std::make_unique<OpenInodes>(*tree_, *registry_);
        auto file = store_->create_file("/f", 0600, base::Cred{0, 0, {}, 0});
        ASSERT_TRUE(file);
        file_ = file->inode;
    }

    store::testing::TestPool pool_;
    store::Store* store_ = nullptr;
    std::unique_ptr<session::Registry> registry_;
    std::unique_ptr<store::Tree> tree_;
    std::unique_ptr<OpenInodes> opens_;
    base::InodeNo file_;
};

TEST_F(OpenInodesTest, WhatIsOpenThroughTheCacheCannotBeClaimed) {
    auto mode = opens_->open(file_);
    ASSERT_TRUE(mode);
    EXPECT_EQ(*mode, OpenMode::Cached);
    EXPECT_TRUE(store_->is_open(file_));
    EXPECT_EQ(opens_->claim(file_).error().code(), base::Code::Busy);
    opens_->close(file_, *mode);
    EXPECT_FALSE(store_->is_open(file_));
    EXPECT_TRUE(opens_->claim(file_));
}

TEST_F(OpenInodesTest, WhatIsClaimedIsOpenedDirectlyUntilTheLastOfThoseIsClosed) {
    ASSERT_TRUE(opens_->claim(file_));
    EXPECT_EQ(*opens_->open(file_), OpenMode::Direct);
    opens_->unclaim(file_);
    // Nobody has mapped it, but a program goes past the cache still.
    EXPECT_EQ(*opens_->open(file_), OpenMode::Direct);
    ASSERT_TRUE(opens_->claim(file_));
    opens_->unclaim(file_);
    opens_->close(file_, OpenMode::Direct);
    opens_->close(file_, OpenMode::Direct);
    EXPECT_EQ(*opens_->open(file_), OpenMode::CachedAnew);
    EXPECT_EQ(opens_->cached(), std::vector{file_});
}

TEST_F(OpenInodesTest, PagesFromDirectTimesAreDroppedByAllThatOpenItNext) {
    ASSERT_TRUE(opens_->claim(file_));
    ASSERT_EQ(*opens_->open(file_), OpenMode::Direct);
    opens_->unclaim(file_);
    opens_->close(file_, OpenMode::Direct);
    // The kernel does not know of this one.
    ASSERT_EQ(*opens_->open(file_), OpenMode::CachedAnew);
    opens_->abandon(file_, OpenMode::CachedAnew);
    for (int i = 0; i < 2; ++i) ASSERT_EQ(*opens_->open(file_), OpenMode::CachedAnew);
    opens_->close(file_, OpenMode::CachedAnew);
    ASSERT_EQ(*opens_->open(file_), OpenMode::CachedAnew);
    for (int i = 0; i < 2; ++i) opens_->close(file_, OpenMode::CachedAnew);
    ASSERT_EQ(*opens_->open(file_), OpenMode::Cached);
    opens_->close(file_, OpenMode::Cached);
}

TEST_F(OpenInodesTest, WhatTheKernelHasForgottenHasNoPages) {
    ASSERT_TRUE(opens_->claim(file_));
    ASSERT_EQ(*opens_->open(file_), OpenMode::Direct);
    opens_->unclaim(file_);
    opens_->close(file_, OpenMode::Direct);
    opens_->forgotten(file_);
    EXPECT_EQ(*opens_->open(file_), OpenMode::Cached);
}

TEST_F(OpenInodesTest, AConnectionThatEndsClosesAllAndKeepsClaims) {
    ASSERT_TRUE(opens_->claim(file_));
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(opens_->open(file_));
    EXPECT_EQ(opens_->count(), 3u);
    opens_->close_all();
    EXPECT_EQ(opens_->count(), 0u);
    EXPECT_FALSE(store_->is_open(file_));
    EXPECT_EQ(*opens_->open(file_), OpenMode::Direct);
    // What the kernel closes twice is closed once.
    opens_->close(file_, OpenMode::Direct);
    opens_->close(file_, OpenMode::Direct);
    opens_->close(file_, OpenMode::Cached);
    opens_->unclaim(file_);
}

TEST_F(OpenInodesTest, WhatIsGoneCannotBeOpened) {
    EXPECT_FALSE(opens_->open(base::InodeNo(4711)));
    EXPECT_EQ(opens_->count(), 0u);
}

}  // namespace
}  // namespace refault::mount
