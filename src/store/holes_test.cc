// Sparse files: what has space and what has none, that holes read as zeros and copies, losses,
// moves and devices that come and go know nothing of them; and a full pool at the right call.
#include <gtest/gtest.h>

#include <algorithm>

#include "store/test_pool.h"
#include "store/tree.h"

namespace refault::store {
namespace {

using base::Code;
using base::kPageBytes;
using namespace testing;
using Content = std::vector<std::uint8_t>;

constexpr std::uint64_t kPage = kPageBytes;

template <typename T>
int errno_of(const Result<T>& result) {
    return result.ok() ? 0 : result.error().sys_errno();
}

class Holes : public ::testing::Test {
  protected:
    void SetUp() override { pool.create(2, {64 * 1024, 32}); }

    InodeNo make(std::uint64_t size_bytes, std::uint32_t replicas = 1) {
        const auto made = *pool->create_file("/f", 0644, root());
        if (replicas > 1) {
            const auto set = pool->set_redundancy("/f", {replicas, std::nullopt}, root());
            EXPECT_TRUE(set.ok());
        }
        const auto layout = pool->lock_layout(made.inode);
        EXPECT_TRUE(pool->set_size(made.inode, size_bytes).ok());
        model.assign(size_bytes, 0);
        return made.inode;
    }
    void write(InodeNo inode, std::uint64_t offset, std::uint64_t length, std::uint8_t value) {
        const auto layout = pool->lock_layout(inode);
        const auto written = pool->write_growing(inode, offset, Content(length, value));
        ASSERT_TRUE(written.ok()) << written.error().message();
        if (model.size() < offset + length) model.resize(offset + length);
        std::fill_n(model.begin() + static_cast<long>(offset), length, value);
    }
    void deallocate(InodeNo inode, FileRange range) {
        const auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->deallocate(inode, range).ok());
        const auto end = std::min<std::uint64_t>(range.end(), model.size());
        std::fill(model.begin() + static_cast<long>(range.begin()),
                  model.begin() + static_cast<long>(end), std::uint8_t{0});
    }
    void set_size(InodeNo inode, std::uint64_t size) {
        const auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->set_size(inode, size).ok());
        model.resize(size);
    }
    void expect_content(InodeNo inode) {
        EXPECT_TRUE(pool.content(inode) == model);
        pool.expect_sound();
    }
    std::uint64_t allocated(InodeNo inode) { return pool->stat(inode)->allocated_bytes; }
    std::uint64_t data_bytes() {
        std::uint64_t sum = 0;
        for (const auto& usage : pool->usage()) sum += usage.data_bytes;
        return sum;
    }

    TestPool pool;
    Content model;
};

TEST_F(Holes, GrowingTakesNoSpace) {
    const auto file = make(1 << 20);
    EXPECT_EQ(allocated(file), 0u);
    EXPECT_EQ(data_bytes(), 0u);
    expect_content(file);
    pool.reopen();
    expect_content(file);
    EXPECT_TRUE(pool->files_that_need_attention().empty());
}

TEST_F(Holes, OnlyFilesAreWritten) {
    const auto made =
        Tree(*pool).make(base::kRootInode, "l", {FileType::Symlink, 0, 0, 0, 0, "/x"});
    ASSERT_TRUE(made.ok());
    EXPECT_EQ(errno_of(pool->write_growing(base::kRootInode, 0, Content(1))), EISDIR);
    EXPECT_EQ(errno_of(pool->write_growing(made->inode, 0, Content(1))), EINVAL);
    EXPECT_EQ(errno_of(pool->write(made->inode, 0, Content(1))), EINVAL);
    pool.expect_sound();
}

TEST_F(Holes, AFileMayBeLargerThanThePool) {
    const auto file = make(0);
    {
        const auto layout = pool->lock_layout(file);
        ASSERT_TRUE(pool->set_size(file, 1ull << 50).ok());
        ASSERT_TRUE(pool->write(file, 1ull << 49, Content(10, 7)).ok());
        Content bytes(12);
        ASSERT_TRUE(pool->read(file, (1ull << 49) - 1, bytes).ok());
        EXPECT_EQ(bytes.front(), 0);
        EXPECT_EQ(bytes[1], 7);
        EXPECT_EQ(errno_of(pool->set_size(file, (1ull << 60) + 1)), EFBIG);
        EXPECT_EQ(errno_of(pool->write_growing(file, 1ull << 60, Content(1))), EFBIG);
        EXPECT_EQ(errno_of(pool->write_growing(file, UINT64_MAX, Content(1))), EFBIG);
    }
    EXPECT_EQ(allocated(file), kPage);
    pool.reopen();
    EXPECT_EQ(pool->stat(file)->size_bytes, 1ull << 50);
    pool.expect_sound();
}

TEST_F(Holes, WritesTakeWhatTheyNeed) {
    const auto file = make(40 * kPage);
    write(file, 3 * kPage + 100, 50, 1);
    EXPECT_EQ(allocated(file), kPage);
    write(file, 10 * kPage - 1, 2, 2);
    EXPECT_EQ(allocated(file), 3 * kPage);
    write(file, 3 * kPage, 8 * kPage, 3);  // over both, and the hole between
    EXPECT_EQ(allocated(file), 8 * kPage);
    write(file, 60 * kPage + 5, 100, 4);  // beyond the end
    EXPECT_EQ(pool->stat(file)->size_bytes, 60 * kPage + 105);
    EXPECT_EQ(allocated(file), 9 * kPage);
    expect_content(file);
    pool.reopen();
    expect_content(file);
}

TEST_F(Holes, WritesThatFitNeedNoTransaction) {
    const auto file = make(4 * kPage);
    write(file, 0, 4 * kPage, 1);
    {
        const auto layout = pool->lock_layout(file);
        ASSERT_TRUE(pool->sync(file, FileRange(0, 1)).ok());  // times
    }
    const auto before = pool->log_status().log_bytes;
    for (int i = 0; i < 10; ++i) write(file, kPage, 100, 2);
    EXPECT_EQ(pool->log_status().log_bytes, before);
}

TEST_F(Holes, BytesBehindTheEndAreNeverSeen) {
    const auto file = make(0);
    write(file, 0, kPage, 9);
    set_size(file, 100);
    set_size(file, kPage);
    expect_content(file);
    write(file, 0, kPage, 9);
    set_size(file, 100);
    write(file, 3 * kPage, 10, 8);  // the gap is zeros
    expect_content(file);
}

TEST_F(Holes, DeallocateGivesSpaceBack) {
    const auto file = make(0);
    write(file, 0, 20 * kPage, 5);
    const auto room = pool.room_bytes();
    deallocate(file, FileRange(2 * kPage + 100, 5 * kPage + 200));
    EXPECT_EQ(allocated(file), 18 * kPage);
    EXPECT_EQ(data_bytes(), 18 * kPage);
    expect_content(file);
    deallocate(file, FileRange(7 * kPage + 1, 7 * kPage + 2));  // within a page
    deallocate(file, FileRange(8 * kPage + 1, 9 * kPage + 2));  // over a border
    EXPECT_EQ(allocated(file), 18 * kPage);
    deallocate(file, FileRange(19 * kPage, UINT64_MAX));
    EXPECT_EQ(allocated(file), 17 * kPage);
    expect_content(file);
    deallocate(file, FileRange(0, UINT64_MAX));
    EXPECT_EQ(allocated(file), 0u);
    EXPECT_EQ(data_bytes(), 0u);
    EXPECT_GE(pool.room_bytes(), room + 20 * kPage);
    expect_content(file);
    pool.reopen();
    expect_content(file);
}

TEST_F(Holes, TheLastPageGoesAsAWhole) {
    const auto file = make(0);
    write(file, 0, 2 * kPage + 10, 5);
    deallocate(file, FileRange(2 * kPage, 2 * kPage + 10));
    EXPECT_EQ(allocated(file), 2 * kPage);
    expect_content(file);
}

TEST_F(Holes, AllocateIsAllOrNothing) {
    const auto file = make(10 * kPage);
    write(file, 2 * kPage, 10, 1);
    {
        const auto layout = pool->lock_layout(file);
        ASSERT_TRUE(pool->allocate(file, FileRange(kPage + 5, 4 * kPage)).ok());
        EXPECT_EQ(allocated(file), 3 * kPage);
        EXPECT_EQ(errno_of(pool->allocate(file, FileRange(0, 11 * kPage))), EOPNOTSUPP);
        ASSERT_TRUE(
            pool->allocate(file, FileRange(0, 11 * kPage + 1), Store::Growth::GrowSize).ok());
        model.resize(11 * kPage + 1);
    }
    EXPECT_EQ(allocated(file), 12 * kPage);
    expect_content(file);
    const auto room = pool.free_bytes();
    {
        const auto layout = pool->lock_layout(file);
        const auto full = pool->allocate(file, FileRange(0, 1ull << 30), Store::Growth::GrowSize);
        EXPECT_EQ(errno_of(full), ENOSPC);
    }
    EXPECT_EQ(pool.free_bytes(), room);
    expect_content(file);
}

TEST_F(Holes, AFullPoolIsToldByTheWriteThatFindsItFull) {
    const auto file = make(100 << 20);
    const auto layout = pool->lock_layout(file);
    const Content block(64 * 1024, 3);
    std::uint64_t at = 0;
    Result<std::size_t> written = std::size_t{0};
    for (; (written = pool->write(file, at, block)).ok(); at += 2 * block.size())
        ASSERT_LT(at, 50u << 20);
    EXPECT_EQ(errno_of(written), ENOSPC);
    EXPECT_GT(at, 2u << 20);
    // What was written is there, and can be written again; the next part is a hole still.
    Content bytes(block.size());
    ASSERT_TRUE(pool->read(file, at - 2 * block.size(), bytes).ok());
    EXPECT_EQ(bytes, block);
    ASSERT_TRUE(pool->read(file, at, bytes).ok());
    EXPECT_EQ(bytes, Content(block.size(), 0));
    EXPECT_TRUE(pool->write(file, 0, block).ok());
    pool.expect_sound();
}

TEST_F(Holes, SeeksFindDataAndHoles) {
    const auto file = make(20 * kPage + 10);
    write(file, 3 * kPage + 5, 10, 1);
    write(file, 4 * kPage, 10, 1);
    write(file, 20 * kPage, 10, 1);
    EXPECT_EQ(*pool->next_data(file, 0), 3 * kPage);
    EXPECT_EQ(*pool->next_data(file, 3 * kPage + 7), 3 * kPage + 7);
    EXPECT_EQ(*pool->next_hole(file, 0), 0u);
    EXPECT_EQ(*pool->next_hole(file, 3 * kPage + 7), 5 * kPage);
    EXPECT_EQ(*pool->next_data(file, 5 * kPage), 20 * kPage);
    EXPECT_EQ(*pool->next_hole(file, 20 * kPage), 20 * kPage + 10);
    EXPECT_EQ(errno_of(pool->next_data(file, 20 * kPage + 10)), ENXIO);
    EXPECT_EQ(errno_of(pool->next_hole(file, 20 * kPage + 10)), ENXIO);
    deallocate(file, FileRange(20 * kPage, UINT64_MAX));
    EXPECT_EQ(errno_of(pool->next_data(file, 5 * kPage)), ENXIO);
    EXPECT_EQ(*pool->next_hole(file, 5 * kPage), 5 * kPage);
}

TEST_F(Holes, EveryCopyHasTheSameHoles) {
    const auto file = make(30 * kPage, 2);
    write(file, 5 * kPage, 3 * kPage, 4);
    write(file, 20 * kPage, 10, 4);
    EXPECT_EQ(allocated(file), 4 * kPage);
    EXPECT_EQ(data_bytes(), 8 * kPage);
    EXPECT_TRUE(pool->files_that_need_attention().empty());
    deallocate(file, FileRange(6 * kPage, 7 * kPage));
    EXPECT_EQ(data_bytes(), 6 * kPage);
    EXPECT_TRUE(pool->files_that_need_attention().empty());
    expect_content(file);
    // Each copy alone has all bytes.
    for (const auto& extent : pool->extents(file, FileRange(0, UINT64_MAX))) {
        Content bytes(extent.length);
        ASSERT_TRUE((*pool->device(extent.device))->read(extent.device_offset, bytes).ok());
        EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(),
                               model.begin() + static_cast<long>(extent.file_offset)));
    }
}

TEST_F(Holes, CopiesThatAreMissingAreCountedWithoutHoles) {
    const auto file = make(30 * kPage);
    write(file, 5 * kPage, 3 * kPage, 4);
    ASSERT_TRUE(pool->set_redundancy("/f", {2u, std::nullopt}, root()).ok());
    const auto needed = pool->files_that_need_attention();
    ASSERT_EQ(needed.size(), 1u);
    EXPECT_EQ(needed[0].missing_bytes, 3 * kPage);
    auto plan = pool->reserve_copies(file, 1 << 20);
    ASSERT_TRUE(plan.ok());
}

TEST_F(Holes, OnlyDataIsLost) {
    const auto file = make(10 * kPage);
    write(file, 2 * kPage, kPage, 1);
    write(file, 5 * kPage, kPage, 1);
    const auto extents = pool->extents(file, FileRange(0, 4 * kPage));
    ASSERT_EQ(extents.size(), 1u);
    {
        const auto layout = pool->lock_layout(file);
        ASSERT_TRUE(pool->drop_copies(extents, FailureKind::Poison).ok());
        ASSERT_TRUE(pool->release_moved(std::vector<Move>{{extents[0], {}, 0, {}, false}}).ok());
    }
    ASSERT_EQ(pool->all_lost().size(), 1u);
    pool.expect_sound();
    const auto layout = pool->lock_layout(file);
    Content bytes(kPage);
    EXPECT_EQ(errno_of(pool->read(file, 2 * kPage, bytes)), EIO);
    EXPECT_TRUE(pool->read(file, 3 * kPage, bytes).ok());
    EXPECT_EQ(*pool->next_data(file, 0), 2 * kPage) << "what is lost is no hole";
    EXPECT_EQ(*pool->next_hole(file, 2 * kPage), 3 * kPage);
    // Space for the file does not take the mark off, and finds no hole there.
    ASSERT_TRUE(pool->allocate(file, FileRange(0, 10 * kPage)).ok());
    EXPECT_EQ(allocated(file), 9 * kPage);
    EXPECT_EQ(errno_of(pool->write(file, 2 * kPage + 1, Content(5))), EIO);
    // Half of the page stays lost; the page as a whole becomes a hole.
    ASSERT_TRUE(pool->deallocate(file, FileRange(2 * kPage, 2 * kPage + 100)).ok());
    EXPECT_EQ(pool->all_lost().size(), 1u);
    ASSERT_TRUE(pool->deallocate(file, FileRange(2 * kPage, 3 * kPage)).ok());
    EXPECT_TRUE(pool->all_lost().empty());
    EXPECT_TRUE(pool->read(file, 2 * kPage, bytes).ok());
    EXPECT_EQ(bytes, Content(kPage, 0));
    pool.expect_sound();
}

TEST_F(Holes, DrainMovesDataAlone) {
    const auto file = make(100 * kPage);
    write(file, 10 * kPage, 2 * kPage, 1);
    write(file, 50 * kPage, 20 * kPage, 2);
    for (const auto& name : {"a", "b"}) {
        const auto moves = pool->reserve_evacuation(pool.id(name), 1 << 20);
        ASSERT_TRUE(moves.ok()) << moves.error().message();
        ASSERT_TRUE(pool.move(*moves).ok());
        EXPECT_EQ(pool.usage(name).data_bytes, 0u);
        expect_content(file);
    }
    EXPECT_EQ(allocated(file), 22 * kPage);
}

TEST_F(Holes, AMoveOfWhatWasDeallocatedIsOutdated) {
    const auto file = make(0);
    write(file, 0, 8 * kPage, 1);
    const auto device = pool->extents(file, FileRange(0, 1)).front().device;
    const auto moves = *pool->reserve_evacuation(device, 1 << 20);
    deallocate(file, FileRange(2 * kPage, 3 * kPage));
    for (const auto& move : moves) EXPECT_FALSE(pool->is_current(move));
    pool->abort_moves(moves);
    expect_content(file);
}

TEST_F(Holes, ReopenedWithHolesPunched) {
    const auto file = make(0);
    write(file, 0, 40 * kPage, 1);
    for (std::uint64_t i = 0; i < 40; i += 2)
        deallocate(file, FileRange(i * kPage, (i + 1) * kPage));
    EXPECT_EQ(allocated(file), 20 * kPage);
    pool.reopen();
    expect_content(file);
    // What takes the freed pages reads as zeros.
    const auto other = pool->create_file("/g", 0644, root())->inode;
    const auto layout = pool->lock_layout(other);
    ASSERT_TRUE(pool->resize(other, 30 * kPage).ok());
    Content bytes(30 * kPage, 1);
    ASSERT_TRUE(pool->read(other, 0, bytes).ok());
    EXPECT_EQ(bytes, Content(30 * kPage, 0));
}

TEST_F(Holes, SparseFilesLeaveWithTheirDevice) {
    pool->set_leaving(pool.id("b"), true);
    const auto file = make(50 * kPage);
    write(file, 30 * kPage, kPage, 6);
    pool->set_leaving(pool.id("b"), false);
    const auto a = pool.id("a");
    const auto plan = pool->plan_export({a});
    ASSERT_TRUE(plan.ok());
    EXPECT_EQ(plan->files, std::vector<InodeNo>{file});
    EXPECT_TRUE(plan->incomplete.empty());
    write(file, 40 * kPage, kPage, 6);
    pool->set_leaving(a, true);
    write(file, 45 * kPage, kPage, 6);  // on the other device
    EXPECT_EQ(pool->plan_export({a})->incomplete.size(), 1u);
}

}  // namespace
}  // namespace refault::store
