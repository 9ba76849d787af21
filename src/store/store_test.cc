// The store by itself: sizes, bytes, pins, space, and that all of it is there again after closing
// and opening.
#include "store/store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "store/test_pool.h"

namespace refault::store {
namespace {

using base::Code;
using base::kPageBytes;
using namespace testing;

TEST(Store, ContentSurvivesClosingAndOpening) {
    TestPool pool;
    pool.create(2);
    ASSERT_TRUE(pool->make_directory("/d", 0755, root()).ok());
    const auto small = pool.make_file("/d/small", 5000);
    const auto big = pool.make_file("/big", 300 * 1024 + 7);
    const auto uuid = pool->pool_uuid();
    pool.expect_sound();
    pool.reopen();
    pool.expect_sound();
    EXPECT_EQ(pool->pool_uuid(), uuid);
    EXPECT_EQ(pool->pool_name(), "pool");
    EXPECT_EQ(pool->stat("/d/small", root())->inode, small);
    EXPECT_EQ(pool.content(small), TestPool::pattern(small, 5000));
    EXPECT_EQ(pool.content(big), TestPool::pattern(big, 300 * 1024 + 7));
    EXPECT_EQ(pool->path_of(small), "/d/small");
}

TEST(Store, NewSpaceReadsAsZero) {
    TestPool pool;
    pool.create(1);
    const auto free_before = pool.room_bytes();
    for (int round = 0; round < 5; ++round) {
        const auto path = "/f" + std::to_string(round);
        const auto keeper = pool.make_file(path + "-keeper", 3 * kPageBytes);
        const auto inode = pool.make_file(path, 600 * 1024);
        auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->resize(inode, 1000).ok());
        ASSERT_TRUE(pool->resize(inode, 500 * 1024).ok());
        layout = {};
        auto bytes = pool.content(inode);
        const auto pattern = TestPool::pattern(inode, 1000);
        EXPECT_TRUE(std::equal(pattern.begin(), pattern.end(), bytes.begin()));
        EXPECT_TRUE(
            std::all_of(bytes.begin() + 1000, bytes.end(), [](auto byte) { return byte == 0; }));
        ASSERT_TRUE(pool->unlink(path, root()).ok());
        ASSERT_TRUE(pool->unlink(path + "-keeper", root()).ok());
        EXPECT_EQ(pool->stat(keeper).error().code(), Code::NotFound);
    }
    EXPECT_EQ(pool.room_bytes(), free_before);
    pool.expect_sound();
}

TEST(Store, BytesBehindTheEndAreNotSeenAfterGrowth) {
    TestPool pool;
    pool.create(1);
    const auto inode = pool.make_file("/f", 100);
    const auto extent = pool->extents(inode, FileRange(0, 1)).at(0);
    // As a store through a mapping of the last page would.
    const std::vector<std::uint8_t> junk(1000, 0xee);
    ASSERT_TRUE((*pool->device(extent.device))->write(extent.device_offset + 200, junk).ok());
    ASSERT_TRUE(pool->resize(inode, 4000).ok());
    EXPECT_EQ(pool.content(inode)[250], 0);
}

TEST(Store, FullPoolRefusesAndChangesNothing) {
    TestPool pool;
    pool.create(2);
    const auto inode = pool.make_file("/f", 70 * 1024);
    const auto free_before = pool.room_bytes();
    const auto refused = pool->resize(inode, 1ull << 30);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code(), Code::NoSpace);
    EXPECT_NE(refused.error().message().find("room for only"), std::string::npos)
        << refused.error().message();
    EXPECT_EQ(pool->resize(inode, 1ull << 62).error().code(), Code::NoSpace);
    EXPECT_EQ(pool->resize(inode, UINT64_MAX).error().code(), Code::NoSpace);
    EXPECT_EQ(pool.room_bytes(), free_before);
    EXPECT_EQ(pool.content(inode), TestPool::pattern(inode, 70 * 1024));
    pool.expect_sound();
    pool.reopen();
    EXPECT_EQ(pool.room_bytes(), free_before);
}

TEST(Store, FreeBytesCanAllBeTaken) {
    TestPool pool;
    pool.create(2, {2 << 20, 8});
    const auto all = pool.free_bytes();
    const auto made = pool->create_file("/all", 0600, root());
    ASSERT_TRUE(pool->resize(made->inode, all).ok());
    EXPECT_EQ(pool.free_bytes(), 0u);
    EXPECT_EQ(pool->resize(made->inode, all + 1).error().code(), Code::NoSpace);
    // Metadata goes on in its reserve, and the space comes back.
    ASSERT_TRUE(pool->unlink("/all", root()).ok());
    EXPECT_EQ(pool.free_bytes(), all);
    pool.expect_sound();
}

TEST(Store, PinKeepsAnUnlinkedFile) {
    TestPool pool;
    pool.create(1);
    const auto free_before = pool.room_bytes();
    const auto inode = pool.make_file("/f", 100 * 1024);
    ASSERT_TRUE(pool->open_file("/f", base::Access::ReadWrite, root()).ok());
    ASSERT_TRUE(pool->pin(inode).ok());
    ASSERT_TRUE(pool->unlink("/f", root()).ok());
    EXPECT_EQ(pool->path_of(inode), "(unlinked)");
    EXPECT_EQ(pool.content(inode), TestPool::pattern(inode, 100 * 1024));
    pool.expect_sound();
    pool->unpin(inode);
    EXPECT_EQ(pool.content(inode), TestPool::pattern(inode, 100 * 1024));
    pool->unpin(inode);
    EXPECT_EQ(pool->stat(inode).error().code(), Code::NotFound);
    EXPECT_EQ(pool.room_bytes(), free_before);
    pool.expect_sound();
}

TEST(Store, FileWithoutANameIsGoneAfterOpening) {
    TestPool pool;
    pool.create(1);
    const auto free_before = pool.room_bytes();
    const auto inode = pool.make_file("/f", 100 * 1024);
    ASSERT_TRUE(pool->open_file("/f", base::Access::Read, root()).ok());
    ASSERT_TRUE(pool->unlink("/f", root()).ok());
    pool.reopen();
    EXPECT_EQ(pool->stat(inode).error().code(), Code::NotFound);
    EXPECT_EQ(pool.room_bytes(), free_before);
    pool.expect_sound();
    // Its number is not given again.
    EXPECT_GT(pool->create_file("/g", 0600, root())->inode, inode);
}

TEST(Store, RenameOverFreesWhatItReplaces) {
    TestPool pool;
    pool.create(1);
    const auto old_inode = pool.make_file("/old", 200 * 1024);
    const auto free_before = pool.room_bytes();
    const auto new_inode = pool.make_file("/new", 200 * 1024);
    ASSERT_TRUE(pool->rename("/new", "/old", root()).ok());
    EXPECT_EQ(pool->stat("/old", root())->inode, new_inode);
    EXPECT_EQ(pool->stat(old_inode).error().code(), Code::NotFound);
    EXPECT_EQ(pool.room_bytes(), free_before);
    EXPECT_EQ(pool.content(new_inode), TestPool::pattern(new_inode, 200 * 1024));
    pool.expect_sound();
}

TEST(Store, OwnersOfSegments) {
    TestPool pool;
    pool.create(1);
    const auto owner_of = [&](InodeNo inode) {
        const auto extent = pool->extents(inode, FileRange(0, 1)).at(0);
        const auto device = *pool->device(extent.device);
        return *pool->segment_owner(extent.device, device->segment_at(extent.device_offset));
    };
    const auto one = pool.make_file("/one", kPageBytes, user(1000));
    const auto two = pool.make_file("/two", kPageBytes, user(1000));
    const auto other = pool.make_file("/other", kPageBytes, user(1001));
    const auto big = pool.make_file("/big", 100 * 1024, user(1000));
    EXPECT_EQ(owner_of(one), (SegmentOwner{SegmentOwner::Kind::SharedByUser, 1000, {}}));
    EXPECT_EQ(owner_of(two), owner_of(one));
    EXPECT_EQ(owner_of(other), (SegmentOwner{SegmentOwner::Kind::SharedByUser, 1001, {}}));
    EXPECT_EQ(owner_of(big), (SegmentOwner{SegmentOwner::Kind::Exclusive, 0, big}));
    ASSERT_TRUE(pool->set_owner("/one", 1001, 1001, root()).ok());
    EXPECT_EQ(owner_of(one), (SegmentOwner{SegmentOwner::Kind::SharedByUser, 1000, {}}));
    pool.expect_sound();
}

TEST(Store, ReadAndWriteEndWithTheFile) {
    TestPool pool;
    pool.create(2);
    const auto inode = pool.make_file("/f", 130 * 1024);
    std::vector<std::uint8_t> bytes(100, 9);
    EXPECT_EQ(*pool->write(inode, 130 * 1024 - 10, bytes), 10u);
    EXPECT_EQ(*pool->write(inode, 130 * 1024, bytes), 0u);
    EXPECT_EQ(*pool->read(inode, 130 * 1024 - 10, bytes), 10u);
    EXPECT_EQ(*pool->read(inode, UINT64_MAX - 5, bytes), 0u);
    EXPECT_TRUE(pool->populate(inode, FileRange(100, 70 * 1024)).ok());
    EXPECT_TRUE(pool->populate(inode, FileRange(UINT64_MAX - 1, UINT64_MAX)).ok());
    EXPECT_TRUE(pool->sync(inode, FileRange(0, UINT64_MAX)).ok());
    EXPECT_EQ(pool->resize(base::kRootInode, 5).error().sys_errno(), EISDIR);
}

TEST(Store, ModificationTimeIsSavedWithTheNextChangeOrSync) {
    TestPool pool;
    pool.create(1);
    const auto inode = pool.make_file("/f", 1000);
    ASSERT_TRUE(pool->set_modified("/f", 5, root()).ok());
    ASSERT_TRUE(pool->write(inode, 0, std::vector<std::uint8_t>(10)).ok());
    const auto written = pool->stat(inode)->modified_ns;
    EXPECT_GT(written, 5u);
    ASSERT_TRUE(pool->sync(inode, FileRange(0, 1000)).ok());
    pool.reopen();
    EXPECT_EQ(pool->stat(inode)->modified_ns, written);
    ASSERT_TRUE(pool->open_file("/f", base::Access::ReadWrite, root()).ok());
    ASSERT_TRUE(pool->write(inode, 0, std::vector<std::uint8_t>(10)).ok());
    const auto again = pool->stat(inode)->modified_ns;
    pool->unpin(inode);
    pool.reopen();
    EXPECT_EQ(pool->stat(inode)->modified_ns, again);
}

TEST(Store, LayoutLocksExclude) {
    TestPool pool;
    pool.create(1);
    int value = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&, i] {
            for (int round = 0; round < 500; ++round) {
                // In any order, doubled: sorted inside.
                auto held = i % 2 ? pool->lock_layouts({InodeNo(9), InodeNo(4), InodeNo(9)})
                                  : pool->lock_layout(InodeNo(9));
                const int seen = value;
                std::this_thread::yield();
                value = seen + 1;
            }
        });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(value, 2000);
}

TEST(Store, ManyThreadsOnOneUsersSegments) {
    TestPool pool;
    pool.create(2, {64 * 1024, 32});
    const auto free_before = pool.room_bytes();
    const auto seed = test_seed();
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 4; ++i)
        threads.emplace_back([&, i] {
            Random random(seed + i);
            const auto path = "/t" + std::to_string(i);
            for (int round = 0; round < 60; ++round) {
                const auto inode = pool.make_file(path, 1 + random.below(20000));
                EXPECT_EQ(pool.content(inode),
                          TestPool::pattern(inode, pool->stat(inode)->size_bytes));
                EXPECT_TRUE(pool->unlink(path, root()).ok());
            }
        });
    for (auto& thread : threads) thread.join();
    pool.expect_sound();
    EXPECT_EQ(pool.room_bytes(), free_before);
}

TEST(StoreOpen, NamesWhatIsMissing) {
    TestPool pool;
    pool.create(3);
    pool.close();
    pool.forget("b");
    const auto opened = pool.open();
    ASSERT_FALSE(opened.ok());
    EXPECT_EQ(opened.error().code(), Code::NotFound);
    EXPECT_NE(opened.error().message().find("b"), std::string::npos);
}

TEST(StoreOpen, RemovesLeftOverFilesAndPunchesFreeSpace) {
    TestPool pool;
    pool.create(1);
    const auto inode = pool.make_file("/f", kPageBytes);
    const auto extent = pool->extents(inode, FileRange(0, 1)).at(0);
    {
        auto device = *pool->device(extent.device);
        ASSERT_TRUE(device->create_segment(SegmentNo(9)).ok());
        ASSERT_TRUE(
            device->write(extent.device_offset + 2 * kPageBytes, std::vector<std::uint8_t>(100, 1))
                .ok());
    }
    pool.reopen();
    EXPECT_FALSE((*pool->device(extent.device))->has_segment(SegmentNo(9)));
    const auto next = pool.make_file("/g", 0);
    ASSERT_TRUE(pool->resize(next, 8 * kPageBytes).ok());
    const auto bytes = pool.content(next);
    EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](auto byte) { return byte == 0; }));
    pool.expect_sound();
}

TEST(StoreOpen, LostSegmentFileIsCorrupt) {
    TestPool pool;
    pool.create(1);
    const auto inode = pool.make_file("/f", 100 * 1024);
    const auto extent = pool->extents(inode, FileRange(0, 1)).at(0);
    ASSERT_TRUE((*pool->device(extent.device))->release_segment(SegmentNo(0)).ok());
    pool.close();
    EXPECT_EQ(pool.open().error().code(), Code::Corrupt);
}

TEST(StoreCreate, RefusesDoubleNames) {
    TestPool pool;
    auto one = pool.make_device("x", {});
    pool.create(1);
    EXPECT_EQ(Store::create("p", {one, one}, root()).error().code(), Code::Exists);
    EXPECT_EQ(Store::create("p", {}, root()).error().code(), Code::Invalid);
    EXPECT_EQ(Store::create("p/q", {one}, root()).error().code(), Code::Invalid);
}

}  // namespace
}  // namespace refault::store
