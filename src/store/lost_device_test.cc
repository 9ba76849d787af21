// Devices that were lost: what they bring back, and what is made of them when they are given again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "store/test_loss.h"

namespace refault::store {
namespace {

using base::Code;
using namespace testing;

// What only metadata lay on: its segments are given up at the first write that fails, and then
// nothing is missing of what is in use.
TEST(LostDevice, WhoseMetadataSomebodyTookAwayIsKnownWhenThatIsGivenUp) {
    TestPool pool;
    pool.create(3, kShape);
    const auto usage = pool->usage();
    const auto taken =
        std::find_if(usage.begin(), usage.end(), [](const auto& one) { return one.has_metadata; });
    ASSERT_NE(taken, usage.end());
    for (const auto& other : usage) EXPECT_FALSE(pool->misses_files(other.id)) << other.name;
    const std::filesystem::path directory((*pool->device(taken->id))->directory());
    for (const auto segment : pool->segments_in_use(taken->id)) {
        char name[16];
        std::snprintf(name, sizeof name, "seg-%05u", segment.raw());
        std::ofstream cut(directory / name, std::ios::trunc);
        ASSERT_TRUE(std::filesystem::remove(directory / name));
    }
    ASSERT_TRUE(pool->create_file("/more", 0644, root()).ok());
    EXPECT_TRUE(pool->segments_in_use(taken->id).empty());
    for (const auto& one : pool->usage()) {
        EXPECT_EQ(pool->misses_files(one.id), one.id == taken->id) << one.name;
        EXPECT_EQ(one.is_leaving, one.id == taken->id) << one.name;
    }
}

TEST(LostDevice, WhoseFileSomebodyTookAwayIsKnownWhenTheFileIsRemoved) {
    TestPool pool;
    pool.create(3, kShape);
    const auto file = pool.make_file("/file", 150'000);
    const auto place = pool->extents(file, FileRange(0, 4096)).front();
    const auto& device = **pool->device(place.device);
    char name[16];
    std::snprintf(name, sizeof name, "seg-%05u", device.segment_at(place.device_offset).raw());
    ASSERT_TRUE(std::filesystem::remove(std::filesystem::path(device.directory()) / name));
    ASSERT_TRUE(pool->unlink("/file", root()).ok());
    for (const auto& one : pool->usage())
        EXPECT_EQ(pool->misses_files(one.id), one.id == place.device) << one.name;
}

TEST(LostDevice, IsKnownWhenItComesBackAlsoAfterARestart) {
    TestPool pool;
    pool.create(3, kShape);
    const auto one = pool.make_file("/one", 150'000);
    const auto gone = pool->extents(one, FileRange(0, 4096)).front().device;
    const auto name = (*pool->device(gone))->name();
    lose_device(pool, gone);
    pool.forget(name);
    pool.reopen();
    EXPECT_EQ(pool->absent_devices(), std::vector<std::string>{name});
    const auto rejoined = rejoin(pool, name);
    ASSERT_TRUE(rejoined.ok()) << rejoined.error().message();
    EXPECT_FALSE(rejoined->restored.empty());
    EXPECT_EQ(pool.content(one), TestPool::pattern(one, 150'000));
    EXPECT_TRUE(pool->all_lost().empty());
    EXPECT_TRUE(pool->absent_devices().empty());
    pool.expect_sound();
}

// Else everything hangs on the device that stayed, also what has a copy on the one that is back.
TEST(LostDevice, HasACopyOfTheMetadataWhenItIsBack) {
    for (const bool is_open : {true, false}) {
        for (std::size_t which = 0; which < 2; ++which) {
            TestPool pool;
            pool.create(2, kShape);
            ASSERT_TRUE(pool->create_file("/file", 0644, root()).ok());
            const auto gone = pool->usage()[which];
            const auto stays = pool->usage()[1 - which];
            if (is_open) {
                lose_device(pool, gone.id);
            } else {
                pool.close();
                ASSERT_TRUE(pool.open_without(gone.name).ok());
            }
            ASSERT_TRUE(rejoin(pool, gone.name).ok());
            for (const auto& one : pool->usage()) EXPECT_TRUE(one.has_metadata) << one.name;
            pool.close();
            const auto opened = pool.open_without(stays.name);
            ASSERT_TRUE(opened.ok()) << opened.error().message();
            EXPECT_TRUE(pool->stat("/file", root()).ok());
        }
    }
}

TEST(LostDevice, ThatIsForgottenIsAStrangerAlsoAfterARestart) {
    TestPool pool;
    pool.create(3, kShape);
    const auto one = pool.make_file("/one", 150'000);
    const auto gone = pool->extents(one, FileRange(0, 4096)).front().device;
    const auto name = (*pool->device(gone))->name();
    EXPECT_EQ(pool->forget_device(name).error().code(), Code::NotFound);
    lose_device(pool, gone);
    pool.forget(name);
    const auto lost = pool->all_lost().size();
    ASSERT_TRUE(pool->forget_device(name).ok());
    EXPECT_EQ(pool->forget_device(name).error().code(), Code::NotFound);
    pool.reopen();
    EXPECT_TRUE(pool->absent_devices().empty());
    EXPECT_EQ(pool->all_lost().size(), lost);
    EXPECT_EQ(rejoin(pool, name).error().code(), Code::NotFound);
    pool.expect_sound();
}

TEST(LostDevice, ComesBackWithoutAFileThatWasRemovedFromTheMiddleOfASegment) {
    TestPool pool;
    pool.create(2, kShape);
    // Small files of one user share segments.
    std::vector<InodeNo> files;
    for (int i = 0; i < 6; ++i) files.push_back(pool.make_file("/" + std::to_string(i), 8192));
    const auto place = [&](InodeNo inode) { return pool->extents(inode, FileRange(0, 1)).front(); };
    const auto gone = place(files[0]).device;
    std::vector<std::size_t> here;
    for (std::size_t i = 0; i < files.size(); ++i)
        if (place(files[i]).device == gone &&
            place(files[i]).device_offset / kShape.segment_bytes ==
                place(files[0]).device_offset / kShape.segment_bytes)
            here.push_back(i);
    ASSERT_GE(here.size(), 2u);
    const auto name = (*pool->device(gone))->name();
    lose_device(pool, gone);
    pool.forget(name);
    ASSERT_TRUE(pool->unlink("/" + std::to_string(here[0]), testing::root()).ok());
    const auto rejoined = rejoin(pool, name);
    ASSERT_TRUE(rejoined.ok()) << rejoined.error().message();
    const auto kept = files[here[1]];
    EXPECT_EQ(pool.content(kept), TestPool::pattern(kept, 8192));
    EXPECT_TRUE(pool->all_lost().empty());
    pool.expect_sound();
}

TEST(LostDevice, ThatIsGivenWhenThePoolIsOpenedStaysAsItLeft) {
    TestPool pool;
    pool.create(3, kShape);
    const auto one = pool.make_file("/one", 150'000);
    const auto gone = pool->extents(one, FileRange(0, 4096)).front().device;
    const auto name = (*pool->device(gone))->name();
    const auto spec = spec_of(pool, name);
    const auto left = *device::Device::peek_label(spec);
    lose_device(pool, gone);
    for (int round = 0; round < 2; ++round) {
        pool.reopen();
        EXPECT_EQ(pool->absent_devices(), std::vector<std::string>{name});
        const auto label = *device::Device::peek_label(spec);
        EXPECT_EQ(label.state, device::LabelState::Member);
        EXPECT_EQ(label.generation, left.generation);
        pool.expect_sound();
    }
    ASSERT_TRUE(rejoin(pool, name).ok());
    EXPECT_EQ(pool.content(one), TestPool::pattern(one, 150'000));
}

}  // namespace
}  // namespace refault::store
