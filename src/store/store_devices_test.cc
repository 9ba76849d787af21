// Devices that join and leave, and where the copies of the metadata are.
#include <gtest/gtest.h>

#include <algorithm>

#include "store/test_pool.h"

namespace refault::store {
namespace {

using base::Code;
using namespace testing;

std::size_t copies(TestPool& pool) {
    return pool->log_status().devices.size();
}

bool has_copy(TestPool& pool, DeviceId id) {
    const auto devices = pool->log_status().devices;
    return std::find(devices.begin(), devices.end(), id) != devices.end();
}

TEST(StoreDevices, SecondDeviceTakesACopy) {
    TestPool pool;
    pool.create(1);
    EXPECT_EQ(copies(pool), 1u);
    const auto b = pool.add("b");
    ASSERT_TRUE(b.ok()) << b.error().message();
    EXPECT_EQ(copies(pool), 2u);
    const auto c = pool.add("c");
    EXPECT_EQ(copies(pool), 2u);
    EXPECT_FALSE(has_copy(pool, *c));
    EXPECT_TRUE(pool.usage("b").has_metadata);
    EXPECT_GT(pool.usage("b").metadata_bytes, 0u);
    EXPECT_EQ((*pool->device(*c))->label().id, *c);
    pool.expect_sound();
    pool.reopen();
    pool.expect_sound();
    EXPECT_EQ(pool->usage().size(), 3u);
}

TEST(StoreDevices, NamesAreNotGivenTwice) {
    TestPool pool;
    pool.create(1);
    TestPool other;
    EXPECT_EQ(pool->add_device(other.make_device("a", {})).error().code(), Code::Exists);
    EXPECT_EQ(pool->find_device("z").error().code(), Code::NotFound);
}

TEST(StoreDevices, MetadataMovesToADeviceThatStays) {
    TestPool pool;
    pool.create(3);
    const auto first = pool->log_status().devices;
    pool->set_leaving(first[0], true);
    ASSERT_TRUE(pool->evacuate_metadata(first[0]).ok());
    EXPECT_EQ(copies(pool), 2u);
    EXPECT_FALSE(has_copy(pool, first[0]));
    EXPECT_TRUE(has_copy(pool, first[1]));
    EXPECT_TRUE((*pool->device(first[0]))->list_segments()->empty());
    EXPECT_TRUE((*pool->device(first[0]))->label().metadata_segments.empty());
    // Again: one copy is dropped, as only one device stays.
    pool->set_leaving(first[1], true);
    ASSERT_TRUE(pool->evacuate_metadata(first[1]).ok());
    EXPECT_EQ(copies(pool), 1u);
    // The last one is not.
    const auto last = pool->log_status().devices[0];
    pool->set_leaving(last, true);
    EXPECT_EQ(pool->evacuate_metadata(last).error().code(), Code::NoSpace);
    EXPECT_EQ(copies(pool), 1u);
    for (const auto& usage : pool->usage()) pool->set_leaving(usage.id, false);
    ASSERT_TRUE(pool->ensure_metadata_copies().ok());
    EXPECT_EQ(copies(pool), 2u);
    ASSERT_TRUE(pool->create_file("/f", 0600, root()).ok());
    pool.expect_sound();
    pool.reopen();
    EXPECT_TRUE(pool->stat("/f", root()).ok());
    pool.expect_sound();
}

TEST(StoreDevices, RemovedDeviceIsForgottenAndItsNumberWithIt) {
    TestPool pool;
    pool.create(2);
    const auto inode = pool.make_file("/f", 50000);
    const auto b = pool.id("b");
    const auto device = *pool->device(b);
    const auto generation = device->label().generation;
    EXPECT_EQ(pool->remove_device(b).error().code(), Code::Busy);  // metadata
    pool->set_leaving(b, true);
    ASSERT_TRUE(pool->evacuate_metadata(b).ok());
    const auto moves = pool->reserve_evacuation(b, 1 << 20);
    ASSERT_TRUE(moves.ok());
    if (!moves->empty()) {
        EXPECT_EQ(pool->remove_device(b).error().code(), Code::Busy);  // data
    }
    ASSERT_TRUE(pool.move(*moves).ok());
    ASSERT_TRUE(pool->remove_device(b).ok());
    EXPECT_EQ(device->label().state, device::LabelState::Removed);
    EXPECT_GT(device->label().generation, generation);
    EXPECT_EQ(pool->device(b).error().code(), Code::NotFound);
    EXPECT_EQ(pool->remove_device(pool.id("a")).error().code(), Code::Busy);
    pool.expect_sound();
    pool.forget("b");
    pool.reopen();
    EXPECT_EQ(pool.content(inode), TestPool::pattern(inode, 50000));
    const auto c = pool.add("c");
    EXPECT_GT(*c, b);
    pool.expect_sound();
}

TEST(StoreDevices, TombstoneComesBackWithAHigherGeneration) {
    TestPool pool;
    pool.create(2);
    const auto b = pool.id("b");
    pool->set_leaving(b, true);
    ASSERT_TRUE(pool->evacuate_metadata(b).ok());
    ASSERT_TRUE(pool.move(*pool->reserve_evacuation(b, 1 << 20)).ok());
    auto device = *pool->device(b);
    ASSERT_TRUE(pool->remove_device(b).ok());
    const auto generation = device->label().generation;
    device.reset();
    pool.forget("b");
    const auto again = pool.add("b");
    ASSERT_TRUE(again.ok()) << again.error().message();
    EXPECT_NE(*again, b);
    EXPECT_GT((*pool->device(*again))->label().generation, generation);
    pool.expect_sound();
}

TEST(StoreDevices, GenerationCountsAttachments) {
    TestPool pool;
    pool.create(1);
    const auto generation = (*pool->device(pool.id("a")))->label().generation;
    pool.reopen();
    EXPECT_GT((*pool->device(pool.id("a")))->label().generation, generation);
}

TEST(StoreDevices, LabelThatNoHistoryKnowsBecomesATombstone) {
    TestPool pool;
    pool.create(1);
    const auto label = (*pool->device(pool.id("a")))->label();
    {
        // As after a crash between the label and the journal.
        auto device = pool.make_device("x", {});
        auto stray = label;
        stray.device = *base::Uuid::random();
        stray.id = DeviceId(2);
        stray.name = "x";
        stray.metadata_segments.clear();
        ASSERT_TRUE(device->write_label(stray).ok());
    }
    pool.reopen();
    EXPECT_EQ(pool->usage().size(), 1u);
    pool.forget("x");
    pool.reopen();
    pool.expect_sound();
}

TEST(StoreDevices, LosingEitherCopyKeepsTheHistory) {
    for (const std::size_t lost : {0u, 1u}) {
        TestPool pool;
        pool.create(3);
        const auto inode = pool.make_file("/f", 50000);
        const auto id = pool->log_status().devices[lost];
        {
            // The device itself stays: the pool does not open without all of them. Its metadata is
            // wiped.
            auto device = *pool->device(id);
            for (const auto segment : device->label().metadata_segments)
                ASSERT_TRUE(device->punch(device->segment_range(segment)).ok());
        }
        pool.reopen();
        EXPECT_EQ(pool.content(inode), TestPool::pattern(inode, 50000));
        EXPECT_EQ(copies(pool), 2u);
        pool.expect_sound();
    }
}

TEST(StoreDevices, FailingCopyIsReplacedAtOnce) {
    TestPool pool;
    pool.create(3);
    const auto id = pool->log_status().devices[0];
    auto device = *pool->device(id);
    // The file of the log is gone: writes to it fail.
    for (const auto segment : device->label().metadata_segments)
        ASSERT_TRUE(device->release_segment(segment).ok());
    ASSERT_TRUE(pool->create_file("/f", 0600, root()).ok());
    EXPECT_EQ(copies(pool), 2u);
    EXPECT_FALSE(has_copy(pool, id));
    ASSERT_TRUE(pool->create_file("/g", 0600, root()).ok());
    device.reset();
    pool.reopen();
    EXPECT_TRUE(pool->stat("/g", root()).ok());
}

TEST(StoreDevices, LogGoesOnForeverInASmallPool) {
    TestPool pool;
    pool.create(2, {64 * 1024, 6});
    const auto made = pool->create_file("/data", 0600, root());
    ASSERT_TRUE(pool->resize(made->inode, pool.free_bytes()).ok());
    const auto epoch = pool->log_status().epoch;
    for (int i = 0; i < 3000; ++i) {
        ASSERT_TRUE(pool->create_file("/f", 0600, root()).ok()) << i;
        ASSERT_TRUE(pool->unlink("/f", root()).ok()) << i;
    }
    EXPECT_GT(pool->log_status().epoch, epoch);
    pool.expect_sound();
    pool.reopen();
    pool.expect_sound();
}

// The daemon may end between what is noted of a failing device and its loss, behind a checkpoint.
// The metadata itself fills the devices: what was acknowledged is there when the pool is opened,
// and a device more makes it go on.
TEST(StoreDevices, APoolFullOfMetadataCanBeOpened) {
    for (const std::uint32_t segments : {8u, 16u, 24u, 48u}) {
        TestPool pool;
        pool.create(2, {4096, segments});
        std::size_t files = 0;
        const auto path = [](std::size_t i) {
            return "/" + std::string(200, 'n') + std::to_string(i);
        };
        while (files < 10'000 && pool->create_file(path(files), 0644, root()).ok()) ++files;
        for (int round = 0; round < 3; ++round) {
            pool.reopen();
            pool.expect_sound();
            ASSERT_EQ(pool->list("/", root())->size(), files) << segments;
        }
        ASSERT_TRUE(pool.add("c", {65536, 64}).ok());
        ASSERT_TRUE(pool->create_file("/more", 0644, root()).ok());
        pool.reopen();
        EXPECT_EQ(pool->list("/", root())->size(), files + 1);
        pool.expect_sound();
    }
}

TEST(StoreDevices, ACheckpointInTheMiddleOfALossCanBeOpened) {
    TestPool pool;
    pool.create(3);
    const auto one = pool.make_file("/one", 150'000);
    const auto extent = pool->extents(one, FileRange(0, UINT64_MAX)).front();
    const auto name = (*pool->device(extent.device))->name();
    pool->set_failed(extent.device);
    ASSERT_TRUE(pool->evacuate_metadata(extent.device).ok());
    ASSERT_TRUE(pool->drop_copies(std::span(&extent, 1), FailureKind::SurpriseRemoval).ok());
    ASSERT_TRUE(pool->rewrite_metadata().ok());
    pool.reopen();
    EXPECT_TRUE(pool->find_device(name).ok());
    pool.expect_sound();
}

}  // namespace
}  // namespace refault::store
