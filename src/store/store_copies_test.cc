// Copies of files on their own, without programs: where they lie, and what a lost device or page
// leaves. The random test holds the store against the bytes that were written.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/range_set.h"
#include "store/lost_map.h"
#include "store/test_loss.h"

namespace refault::store {
namespace {

using base::Code;
using base::kPageBytes;
using namespace testing;

// What the resync does, without programs.
void make_copies(TestPool& pool, InodeNo inode) {
    auto plan = pool->reserve_copies(inode, 1 << 20);
    ASSERT_TRUE(plan.ok()) << plan.error().message();
    for (const auto& copy : plan->surplus) {
        const auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->drop_copies(std::span(&copy, 1), std::nullopt).ok());
        ASSERT_TRUE(pool->release_moved(std::vector<Move>{{copy, {}, 0, {}, false}}).ok());
    }
    for (const auto& move : plan->moves) {
        const auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->prepare_target(move).ok());
        auto from = *pool->device(move.from.device);
        auto to = *pool->device(move.to_device);
        const auto copied =
            move.has_old_bytes
                ? device::copy_changed(*from, move.from.device_range(), *to, move.to_offset)
                : device::copy_range(*from, move.from.device_range(), *to, move.to_offset);
        ASSERT_TRUE(copied.ok()) << copied.error().message();
        ASSERT_TRUE(pool->commit_moves(std::span(&move, 1)).ok());
    }
}

void set_replicas(TestPool& pool, const std::string& path, std::uint32_t replicas) {
    const auto set = pool->set_redundancy(path, {replicas, std::nullopt}, root());
    ASSERT_TRUE(set.ok()) << set.error().message();
}

// All copies of every byte say the same.
void expect_equal_copies(TestPool& pool, InodeNo inode, std::size_t copies) {
    const auto size = base::align_up(pool->stat(inode)->size_bytes, kPageBytes);
    for (std::uint64_t at = 0; at < size; at += kPageBytes) {
        const auto extents = pool->extents(inode, FileRange::of_length(at, kPageBytes));
        ASSERT_EQ(extents.size(), copies) << "at " << at;
        std::vector<std::uint8_t> first(kPageBytes), other(kPageBytes);
        ASSERT_TRUE((*pool->device(extents[0].device))->read(extents[0].device_offset, first));
        for (const auto& extent : extents) {
            ASSERT_TRUE((*pool->device(extent.device))->read(extent.device_offset, other));
            EXPECT_EQ(first, other) << "at " << at << ", copy " << extent.replica;
        }
    }
}

TEST(LostMap, SplitsAndKeepsTheFirstRecord) {
    LostMap map;
    map.add({FileRange(0, 8 * kPageBytes), FailureKind::Poison, DeviceId(1), 4096, 1});
    map.add({FileRange(4 * kPageBytes, 12 * kPageBytes), FailureKind::Checksum, DeviceId(2), 0, 2});
    map.clear(FileRange(2 * kPageBytes, 3 * kPageBytes));
    const auto all = map.all();
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(all[0].range, FileRange(0, 2 * kPageBytes));
    EXPECT_EQ(all[1].range, FileRange(3 * kPageBytes, 8 * kPageBytes));
    EXPECT_EQ(all[1].device_offset, 4 * kPageBytes);
    EXPECT_EQ(all[2].range, FileRange(8 * kPageBytes, 12 * kPageBytes));
    EXPECT_EQ(all[2].device_offset, 4 * kPageBytes);
    EXPECT_TRUE(map.overlapping(FileRange(2 * kPageBytes, 3 * kPageBytes)).empty());
    map.clear(FileRange(0, UINT64_MAX));
    EXPECT_TRUE(map.empty());
}

TEST(StoreCopies, LieOnDifferentDevicesAndTakeEveryWrite) {
    TestPool pool;
    pool.create(3, kShape);
    const auto inode = pool.make_file("/f", 200'000);
    set_replicas(pool, "/f", 2);
    make_copies(pool, inode);
    expect_equal_copies(pool, inode, 2);
    {
        const auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->resize(inode, 500'000).ok());
        ASSERT_TRUE(pool->write(inode, 100'000, std::vector<std::uint8_t>(300'000, 9)).ok());
    }
    expect_equal_copies(pool, inode, 2);
    pool.expect_sound();
    pool.reopen();
    expect_equal_copies(pool, inode, 2);
    EXPECT_EQ(pool->stat(inode)->replicas, 2u);
    set_replicas(pool, "/f", 1);
    make_copies(pool, inode);
    expect_equal_copies(pool, inode, 1);
    pool.expect_sound();
}

// Asked for again after it was planned to go.
TEST(StoreCopies, ACopyThatIsTooManyNoMoreStays) {
    TestPool pool;
    pool.create(2, kShape);
    const auto inode = pool.make_file("/f", 200'000);
    set_replicas(pool, "/f", 2);
    make_copies(pool, inode);
    set_replicas(pool, "/f", 1);
    const auto plan = pool->reserve_copies(inode, 1 << 20);
    ASSERT_TRUE(plan.ok());
    ASSERT_FALSE(plan->surplus.empty());
    set_replicas(pool, "/f", 2);
    {
        const auto layout = pool->lock_layout(inode);
        const auto dropped = pool->drop_copies(plan->surplus, std::nullopt);
        ASSERT_TRUE(dropped.ok());
        EXPECT_TRUE(dropped->empty());
    }
    expect_equal_copies(pool, inode, 2);
    pool.expect_sound();
}

TEST(StoreCopies, MoreCopiesThanDevicesAreRefused) {
    TestPool pool;
    pool.create(2, kShape);
    pool.make_file("/f", 4096);
    EXPECT_EQ(pool->set_redundancy("/f", {3, std::nullopt}, root()).error().code(), Code::NoSpace);
    EXPECT_EQ(pool->set_redundancy("/f", {0, std::nullopt}, root()).error().code(), Code::Invalid);
    EXPECT_EQ(pool->set_redundancy("/f", {2, std::nullopt}, user(1000)).error().code(),
              Code::Denied);
}

TEST(StoreCopies, NewFilesHaveWhatTheirDirectoryHas) {
    TestPool pool;
    pool.create(2, kShape);
    ASSERT_TRUE(pool->make_directory("/d", 0755, root()).ok());
    ASSERT_TRUE(pool->set_redundancy("/d", {2, OnLoss::Rollback}, root()).ok());
    const auto inode = pool.make_file("/d/f", 50'000);
    EXPECT_EQ(pool->stat(inode)->on_loss, OnLoss::Rollback);
    expect_equal_copies(pool, inode, 2);
}

TEST(StoreCopies, AnEvacuationKeepsThemApart) {
    TestPool pool;
    pool.create(2, kShape);
    const auto inode = pool.make_file("/f", 100'000);
    set_replicas(pool, "/f", 2);
    make_copies(pool, inode);
    const auto a = pool.id("a");
    pool->set_leaving(a, true);
    EXPECT_EQ(pool->reserve_evacuation(a, 1 << 20).error().code(), Code::NoSpace);
    ASSERT_TRUE(pool.add("c", kShape).ok());
    auto moves = pool->reserve_evacuation(a, 1 << 20);
    ASSERT_TRUE(moves.ok()) << moves.error().message();
    ASSERT_TRUE(pool.move(*moves).ok());
    expect_equal_copies(pool, inode, 2);
    pool.expect_sound();
}

TEST(StoreCopies, LosingADeviceLosesExactlyWhatHasNoOtherCopy) {
    TestPool pool;
    pool.create(3, kShape);
    const auto two = pool.make_file("/two", 150'000);
    set_replicas(pool, "/two", 2);
    make_copies(pool, two);
    const auto one = pool.make_file("/one", 150'000);
    const auto gone = pool->extents(one, FileRange(0, 4096)).front().device;
    base::RangeSet expected;
    for (const auto& extent : pool->extents(one, FileRange(0, UINT64_MAX)))
        if (extent.device == gone) expected.add(extent.file_range());
    lose_device(pool, gone);
    EXPECT_EQ(pool.content(two), TestPool::pattern(two, 150'000));
    base::RangeSet lost;
    for (const auto& part : pool->lost(one, FileRange(0, UINT64_MAX))) lost.add(part.range);
    EXPECT_EQ(lost.parts(), expected.parts());
    std::vector<std::uint8_t> bytes(4096);
    EXPECT_EQ(pool->read(one, 0, bytes).error().code(), Code::Io);
    // Whole pages can be written anew.
    {
        const auto layout = pool->lock_layout(one);
        EXPECT_FALSE(pool->write(one, 0, std::vector<std::uint8_t>(100, 1)).ok());
        ASSERT_TRUE(pool->heal(one, FileRange(0, 4096)).ok());
        ASSERT_TRUE(pool->write(one, 0, std::vector<std::uint8_t>(4096, 5)).ok());
        ASSERT_TRUE(pool->read(one, 0, bytes).ok());
    }
    EXPECT_EQ(bytes, std::vector<std::uint8_t>(4096, 5));
    pool.expect_sound();
    EXPECT_EQ(pool->absent_devices().size(), 1u);
}

// Who may have stored there comes back to the next opening; when all have been told, nobody has to
// be held back any more.
TEST(StoreCopies, WhatWasTakenOverIsRememberedUntilEverybodyIsTold) {
    TestPool pool;
    pool.create(3);
    const auto inode = pool.make_file("/two", kPageBytes * 4);
    set_replicas(pool, "/two", 2);
    make_copies(pool, inode);
    const auto primary = [&] {
        for (const auto& extent : pool->extents(inode, FileRange(0, UINT64_MAX)))
            if (extent.replica == 0) return extent;
        return Extent{};
    };
    const auto page = [&](std::uint64_t number) {
        auto extent = primary();
        extent.file_offset += number * kPageBytes;
        extent.device_offset += number * kPageBytes;
        extent.length = kPageBytes;
        return extent;
    };
    const auto repair = [&](std::uint64_t number) {
        ASSERT_TRUE(pool->begin_repair(page(number)).ok());
        ASSERT_TRUE(pool->end_repair(page(number)).ok());
    };
    repair(0);
    EXPECT_TRUE(pool->taken_over().empty()) << "nobody has it mapped for writing";
    ASSERT_TRUE(pool->set_unsynced(inode, true).ok());
    repair(0);
    const auto bad = page(2);
    ASSERT_TRUE(pool->drop_copies(std::span(&bad, 1), FailureKind::Poison).ok());
    ASSERT_TRUE(pool->release_moved(std::vector<Move>{{bad, {}, 0, {}, false}}).ok());
    pool.close();
    for (int openings = 0; openings < 2; ++openings) {
        ASSERT_TRUE(pool.open().ok());
        EXPECT_EQ(pool->taken_over_at_open(inode).parts(),
                  (std::vector{FileRange(0, kPageBytes),
                               FileRange::of_length(2 * kPageBytes, kPageBytes)}));
        if (openings == 1) {
            ASSERT_TRUE(pool->forget_taken_over(pool->taken_over()).ok());
        }
        EXPECT_EQ(pool->taken_over().size(), openings == 0 ? 2u : 0u);
        pool.expect_sound();
        pool.close();
    }
    ASSERT_TRUE(pool.open().ok());
    EXPECT_TRUE(pool->taken_over_at_open(inode).empty());
}

// The copy could not be read when the primary was lost, and is there still when that is healed.
TEST(StoreCopies, WhatIsHealedDoesNotShareADeviceWithACopyThatWasLeft) {
    TestPool pool;
    pool.create(2, kShape);
    const auto inode = pool.make_file("/f", 100'000);
    set_replicas(pool, "/f", 2);
    make_copies(pool, inode);
    const FileRange page(8192, 12288);
    const auto primary = pool->extents(inode, page).front();
    ASSERT_EQ(primary.replica, 0u);
    ASSERT_TRUE(pool->mark_lost(primary, FailureKind::Poison).ok());
    lose_device(pool, primary.device);
    {
        const auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->heal(inode, page).ok());
    }
    EXPECT_TRUE(pool->all_lost().empty());
    pool.expect_sound();
    auto expected = TestPool::pattern(inode, 100'000);
    std::fill(expected.begin() + 8192, expected.begin() + 12288, 0);
    EXPECT_EQ(pool.content(inode), expected);
    ASSERT_TRUE(pool.add("c", kShape).ok());
    make_copies(pool, inode);
    expect_equal_copies(pool, inode, 2);
    pool.reopen();
    EXPECT_EQ(pool.content(inode), expected);
}

TEST(StoreCopies, ABadPageIsLostUntilItIsHealed) {
    TestPool pool;
    pool.create(2, kShape);
    const auto inode = pool.make_file("/f", 100'000);
    auto page = pool->extents(inode, FileRange(8192, 12288)).front();
    ASSERT_TRUE(pool->mark_lost(page, FailureKind::Poison).ok());
    pool.reopen();
    ASSERT_EQ(pool->all_lost().size(), 1u);
    EXPECT_EQ(pool->all_lost()[0].second.range, FileRange(8192, 12288));
    EXPECT_EQ(pool->all_lost()[0].second.device_offset, page.device_offset);
    {
        const auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->heal(inode, FileRange(0, 100'000)).ok());
    }
    auto expected = TestPool::pattern(inode, 100'000);
    std::fill(expected.begin() + 8192, expected.begin() + 12288, 0);
    EXPECT_EQ(pool.content(inode), expected);
    pool.expect_sound();
}

// Files with copies, and devices that come and go, against what was written.
class RandomCopies {
  public:
    explicit RandomCopies(std::uint64_t seed) : random_(seed) { pool_.create(3, kShape); }

    void step() {
        switch (random_.below(9)) {
            case 0:
                return make();
            case 1:
            case 2:
                return resize();
            case 3:
            case 4:
                return write();
            case 5:
                return set();
            case 6:
                return pool_.expect_sound();
            case 7:
                return random_.one_in(4) ? pool_.reopen() : heal();
            case 8:
                return random_.one_in(3) ? lose() : evacuate();
        }
    }
    void check() {
        for (auto& [inode, bytes] : files_) {
            const auto layout = pool_->lock_layout(inode);
            for (std::uint64_t at = 0; at < bytes.size(); at += kPageBytes) {
                std::vector<std::uint8_t> found(
                    std::min<std::uint64_t>(kPageBytes, bytes.size() - at));
                const auto read = pool_->read(inode, at, found);
                const bool is_lost = lost_.contains({inode, at});
                ASSERT_EQ(read.ok(), !is_lost) << "inode " << inode.raw() << " at " << at;
                if (is_lost) continue;
                const auto begin = bytes.begin() + static_cast<long>(at);
                ASSERT_TRUE(std::equal(found.begin(), found.end(), begin));
            }
        }
        pool_.expect_sound();
    }

  private:
    InodeNo any() {
        if (files_.empty()) make();
        auto at = files_.begin();
        std::advance(at, static_cast<long>(random_.below(files_.size())));
        return at->first;
    }
    void make() {
        if (files_.size() >= 6) return;
        const auto path = "/f" + std::to_string(++made_);
        const auto inode = pool_.make_file(path, random_.below(150'000) + 1);
        paths_[inode] = path;
        files_[inode] = pool_.content(inode);
    }
    void resize() {
        const auto inode = any();
        const auto size = random_.below(300'000);
        {
            const auto layout = pool_->lock_layout(inode);
            // A page that is cut in the middle has to be there.
            for (const auto edge : {size, files_[inode].size()})
                if (lost_.contains({inode, base::align_down(edge, kPageBytes)})) return;
            if (!pool_->resize(inode, size)) return;
        }
        files_[inode].resize(size);
        std::erase_if(lost_,
                      [&](const auto& page) { return page.first == inode && page.second >= size; });
    }
    void write() {
        const auto inode = any();
        auto& bytes = files_[inode];
        if (bytes.empty()) return;
        const auto at = random_.below(bytes.size());
        const auto length = std::min<std::uint64_t>(random_.below(60'000) + 1, bytes.size() - at);
        const std::vector<std::uint8_t> wanted(length,
                                               static_cast<std::uint8_t>(random_.below(256)));
        const auto layout = pool_->lock_layout(inode);
        if (!pool_->write(inode, at, wanted)) return;
        std::copy(wanted.begin(), wanted.end(), bytes.begin() + static_cast<long>(at));
    }
    void set() {
        const auto inode = any();
        const auto replicas = static_cast<std::uint32_t>(random_.below(3) + 1);
        if (pool_->set_redundancy(paths_[inode], {replicas, std::nullopt}, root()))
            make_copies(pool_, inode);
    }
    void heal() {
        const auto inode = any();
        const auto layout = pool_->lock_layout(inode);
        if (!pool_->heal(inode, FileRange(0, 1 << 20))) return;
        for (auto at = lost_.begin(); at != lost_.end();) {
            if (at->first != inode) {
                ++at;
                continue;
            }
            auto& bytes = files_[inode];
            const auto end = std::min<std::uint64_t>(at->second + kPageBytes, bytes.size());
            for (auto i = at->second; i < end; ++i) bytes[i] = 0;
            at = lost_.erase(at);
        }
    }
    void evacuate() {
        const auto id = some_device();
        pool_->set_leaving(id, true);
        auto moves = pool_->reserve_evacuation(id, 1 << 20);
        if (moves) {
            ASSERT_TRUE(pool_.move(*moves).ok());
        }
        pool_->set_leaving(id, false);
    }
    void lose() {
        const auto id = some_device();
        const auto name = (*pool_->device(id))->name();
        // Another comes first: the metadata needs a place.
        if (!pool_.add("n" + std::to_string(++made_), kShape)) return;
        for (auto& [inode, bytes] : files_)
            for (std::uint64_t at = 0; at < bytes.size(); at += kPageBytes) {
                const auto extents = pool_->extents(inode, FileRange::of_length(at, kPageBytes));
                const bool survives = std::any_of(extents.begin(), extents.end(),
                                                  [&](const Extent& e) { return e.device != id; });
                if (!survives) lost_.insert({inode, at});
            }
        lose_device(pool_, id);
        pool_.forget(name);
        for (auto& [inode, bytes] : files_) make_copies(pool_, inode);
    }
    DeviceId some_device() {
        const auto usage = pool_->usage();
        return usage[random_.below(usage.size())].id;
    }

    Random random_;
    TestPool pool_;
    std::map<InodeNo, std::vector<std::uint8_t>> files_;
    std::map<InodeNo, std::string> paths_;
    std::set<std::pair<InodeNo, std::uint64_t>> lost_;
    int made_ = 0;
};

TEST(StoreCopies, RandomLossesAgreeWithWhatWasWritten) {
    RandomCopies run(test_seed());
    for (int i = 0; i < 400 && !::testing::Test::HasFailure(); ++i) {
        run.step();
        if (i % 20 == 19) run.check();
    }
}

}  // namespace
}  // namespace refault::store
