// The state refuses what does not fit, whole, and its image rebuilds it.
#include "store/state.h"

#include <gtest/gtest.h>

#include <set>

#include "store/test_pool.h"

namespace refault::store {
namespace {

using base::kPageBytes;

constexpr std::uint64_t kSegmentBytes = 64 * 1024;
const SegmentOwner kShared{SegmentOwner::Kind::SharedByUser, 1000, {}};

op::CreateInode inode_of(std::uint64_t number, FileType type) {
    Attributes attributes;
    attributes.inode = InodeNo(number);
    attributes.type = type;
    attributes.mode = 0755;
    return {attributes};
}

Extent extent_of(std::uint64_t inode, std::uint64_t file_page, std::uint64_t device_page,
                 std::uint64_t pages) {
    return {InodeNo(inode),           file_page * kPageBytes, DeviceId(1),
            device_page * kPageBytes, pages * kPageBytes,     0};
}

// "/" with a directory d (2), files d/f (3) and g (4), and an orphan (5).
std::vector<Operation> small_pool() {
    return {
        op::SetPool{*base::Uuid::random(), "pool"},
        op::AddDevice{DeviceId(1), *base::Uuid::random(), "a", kSegmentBytes, 8},
        inode_of(1, FileType::Directory),
        inode_of(2, FileType::Directory),
        inode_of(3, FileType::Regular),
        inode_of(4, FileType::Regular),
        inode_of(5, FileType::Regular),
        op::LinkName{InodeNo(1), "d", InodeNo(2)},
        op::LinkName{InodeNo(2), "f", InodeNo(3)},
        op::LinkName{InodeNo(1), "g", InodeNo(4)},
        op::OwnSegment{DeviceId(1), SegmentNo(0), kShared},
        op::OwnSegment{DeviceId(1), SegmentNo(1), {SegmentOwner::Kind::Exclusive, 0, InodeNo(3)}},
        op::AddExtent{extent_of(3, 0, 0, 4)},
        op::AddExtent{extent_of(3, 4, 16, 8)},
        op::AddExtent{extent_of(4, 0, 4, 2)}};
}

State state_of(const std::vector<Operation>& operations) {
    State state;
    for (const auto& operation : operations) EXPECT_TRUE(state.apply(operation).ok());
    return state;
}

// Images list inodes in any order; as sets of operations they compare.
std::multiset<Bytes> image_of(const State& state) {
    std::multiset<Bytes> all;
    for (const auto& record : state.image()) {
        const auto decoded = decode_operations(record);
        EXPECT_TRUE(decoded.ok());
        for (const auto& operation : *decoded) all.insert(encode_operations({&operation, 1}));
    }
    return all;
}

TEST(State, ImageRebuildsIt) {
    const auto state = state_of(small_pool());
    State again;
    for (const auto& record : state.image()) {
        const auto applied = again.apply_record(record);
        ASSERT_TRUE(applied.ok()) << applied.error().message();
    }
    EXPECT_EQ(image_of(again), image_of(state));
    EXPECT_EQ(again.path_of(InodeNo(3)), "/d/f");
    EXPECT_EQ(again.path_of(InodeNo(5)), "(unlinked)");
    EXPECT_EQ(again.path_of(InodeNo(1)), "/");
    EXPECT_EQ(again.next_inode(), InodeNo(6));
    EXPECT_EQ(again.inode(InodeNo(1))->attributes.links, 3u);
    EXPECT_EQ(again.device(DeviceId(1))->map.data_bytes(), 14 * kPageBytes);
}

std::vector<Operation> pool_with_everything() {
    auto operations = small_pool();
    operations.insert(
        operations.end(),
        {inode_of(6, FileType::Symlink), op::SetNode{InodeNo(6), 0, "d/f"},
         op::LinkName{InodeNo(1), "link", InodeNo(6)}, inode_of(7, FileType::BlockDevice),
         op::SetNode{InodeNo(7), 0x800, ""}, op::LinkName{InodeNo(1), "a name of f", InodeNo(3)},
         op::LinkName{InodeNo(2), "z", InodeNo(3)}, op::SetTimes{InodeNo(3), 3, 2, 1},
         op::SetExtended{InodeNo(2), "user.x", Bytes(70, 1)},
         op::SetExtended{InodeNo(3), "user.y", {}}});
    return operations;
}

TEST(State, ImageHasNamesNodesTimesAndAttributes) {
    const auto state = state_of(pool_with_everything());
    State again;
    for (const auto& record : state.image()) ASSERT_TRUE(again.apply_record(record).ok());
    EXPECT_EQ(image_of(again), image_of(state));
    EXPECT_EQ(again.paths_of(InodeNo(3)),
              (std::vector<std::string>{"/a name of f", "/d/f", "/d/z"}));
    EXPECT_EQ(again.inode(InodeNo(3))->attributes.links, 3u);
    EXPECT_EQ(again.inode(InodeNo(3))->attributes.accessed_ns, 3u);
    EXPECT_EQ(again.inode(InodeNo(3))->attributes.allocated_bytes, 12 * kPageBytes);
    EXPECT_EQ(again.inode(InodeNo(6))->target(), "d/f");
    EXPECT_EQ(again.inode(InodeNo(7))->attributes.device, 0x800u);
    EXPECT_EQ(again.inode(InodeNo(2))->rare->extended.at("user.x"), Bytes(70, 1));
}

// What is on a device that fails is noted before the device is lost: a checkpoint may come between.
TEST(State, ImageHasNotesOfADeviceThatIsAboutToBeLost) {
    const auto uuid = *base::Uuid::random();
    auto operations = small_pool();
    auto noted = extent_of(4, 0, 4, 2);
    noted.device = DeviceId(2);
    const op::AddDevice add{DeviceId(2), uuid, "b", kSegmentBytes, 8};
    const op::LoseDevice lose{DeviceId(2), uuid, "b", kSegmentBytes, 8};
    operations.insert(operations.end(), {add, op::NoteAbsent{noted}});
    auto state = state_of(operations);
    for (const bool comes_back : {false, true}) {
        State again;
        for (const auto& record : state.image()) ASSERT_TRUE(again.apply_record(record).ok());
        EXPECT_EQ(image_of(again), image_of(state));
        EXPECT_NE(again.device(DeviceId(2)), nullptr);
        ASSERT_NE(again.absent(DeviceId(2)), nullptr);
        EXPECT_EQ(again.absent(DeviceId(2))->extents, (std::vector<Extent>{noted}));
        EXPECT_EQ(again.absent(DeviceId(2))->name, comes_back ? "b" : "");
        ASSERT_TRUE(state.apply(lose).ok());
        ASSERT_TRUE(state.apply(add).ok());
    }
}

TEST(State, NumbersAreNotGivenTwiceAfterACheckpoint) {
    auto state = state_of(small_pool());
    ASSERT_TRUE(
        state.apply(op::AddDevice{DeviceId(2), *base::Uuid::random(), "b", kSegmentBytes, 8}).ok());
    ASSERT_TRUE(state.apply(op::RemoveDevice{DeviceId(2)}).ok());
    ASSERT_TRUE(state.apply(op::RemoveInode{InodeNo(5)}).ok());
    State again;
    for (const auto& record : state.image()) ASSERT_TRUE(again.apply_record(record).ok());
    EXPECT_EQ(again.next_inode(), InodeNo(6));
    EXPECT_EQ(again.next_device(), DeviceId(3));
}

TEST(State, WhatDoesNotFitIsCorruptAndChangesNothing) {
    const auto uuid = *base::Uuid::random();
    auto far = extent_of(3, 100, 16, 1);
    far.device = DeviceId(9);
    auto odd = extent_of(3, 100, 40, 1);
    odd.device_offset += 512;
    auto regular_root = inode_of(1, FileType::Regular);
    const std::vector<Operation> misfits = {
        op::SetPool{uuid, "again"},
        op::SetCounters{InodeNo(2), DeviceId(1)},
        op::AddDevice{DeviceId(1), uuid, "b", kSegmentBytes, 8},
        op::AddDevice{DeviceId(2), uuid, "a", kSegmentBytes, 8},
        op::AddDevice{DeviceId(2), uuid, "b", kSegmentBytes + 1, 8},
        op::AddDevice{DeviceId(2), uuid, "b", kSegmentBytes, 0},
        op::AddDevice{DeviceId(2), uuid, "b", kSegmentBytes, UINT32_MAX},
        op::RemoveDevice{DeviceId(1)},  // holds extents
        op::RemoveDevice{DeviceId(2)},
        inode_of(3, FileType::Regular),
        inode_of(0, FileType::Regular),
        regular_root,
        op::UpdateInode{inode_of(9, FileType::Regular).attributes},
        op::UpdateInode{inode_of(3, FileType::Directory).attributes},
        op::RemoveInode{InodeNo(3)},  // has a name
        op::RemoveInode{InodeNo(2)},  // has children
        op::RemoveInode{InodeNo(9)},
        op::LinkName{InodeNo(2), "f", InodeNo(5)},  // taken
        op::LinkName{InodeNo(1), "x", InodeNo(2)},  // a second name of a directory
        op::LinkName{InodeNo(3), "x", InodeNo(5)},  // not a directory
        op::LinkName{InodeNo(2), "x/y", InodeNo(5)},
        op::LinkName{InodeNo(2), "..", InodeNo(5)},
        op::LinkName{InodeNo(2), "x", InodeNo(2)},
        op::UnlinkName{InodeNo(1), "nothing"},
        op::OwnSegment{DeviceId(1), SegmentNo(0), kShared},  // has an owner
        op::OwnSegment{DeviceId(1), SegmentNo(8), kShared},
        op::DisownSegment{DeviceId(1), SegmentNo(0)},  // holds extents
        op::DisownSegment{DeviceId(1), SegmentNo(5)},
        op::AddExtent{extent_of(3, 2, 10, 1)},    // overlaps in the file
        op::AddExtent{extent_of(3, 100, 5, 1)},   // overlaps on the device
        op::AddExtent{extent_of(4, 100, 30, 1)},  // in the segment of inode 3
        op::AddExtent{extent_of(3, 100, 40, 1)},  // in a segment of nobody
        op::AddExtent{extent_of(3, 100, 15, 2)},  // across a segment border
        op::AddExtent{extent_of(3, 100, 1000, 1)},
        op::AddExtent{extent_of(3, 100, 8, 0)},
        op::AddExtent{extent_of(2, 0, 8, 1)},  // of a directory
        op::AddExtent{far},
        op::AddExtent{odd},
        op::CutExtent{extent_of(3, 0, 1, 1)},
        op::CutExtent{extent_of(3, 3, 3, 2)},  // longer than what is there
        op::CutExtent{extent_of(9, 0, 0, 1)},
        op::DropExtents{InodeNo(9), 0},
        op::DropExtents{InodeNo(3), 100},
        op::SetNode{InodeNo(9), 0, "x"},
        op::SetNode{InodeNo(5), 0, "x"},  // a file leads nowhere
        op::SetNode{InodeNo(5), 0x800, ""},
        op::SetTimes{InodeNo(9), 1, 1, 1},
        op::SetExtended{InodeNo(9), "x", {}},
        op::SetExtended{InodeNo(3), "", {}},
        op::RemoveExtended{InodeNo(3), "x"},
    };
    auto state = state_of(small_pool());
    const auto before = image_of(state);
    for (std::size_t i = 0; i < misfits.size(); ++i) {
        const auto applied = state.apply(misfits[i]);
        ASSERT_FALSE(applied.ok()) << "misfit " << i;
        EXPECT_EQ(applied.error().code(), base::Code::Corrupt) << "misfit " << i;
        ASSERT_EQ(image_of(state), before) << "misfit " << i;
    }
}

// A journal of some kilobytes must not ask for gigabytes of books.
TEST(State, TheSegmentsOfAPoolAreLimited) {
    State state;
    std::uint32_t devices = 0;
    const auto add = [&] {
        ++devices;
        base::Uuid uuid;
        uuid.bytes.fill(static_cast<std::uint8_t>(devices));
        return state.apply(
            op::AddDevice{DeviceId(devices), uuid, std::to_string(devices), 4096, 1u << 18});
    };
    while (state.has_room_for(1u << 18)) ASSERT_TRUE(add().ok());
    EXPECT_EQ(devices, kPoolSegmentsMax >> 18);
    EXPECT_FALSE(add().ok());
    EXPECT_FALSE(state.has_room_for(1));
}

TEST(State, NodesAreWholeBeforeTheyHaveNames) {
    auto state = state_of({inode_of(1, FileType::Directory), inode_of(2, FileType::Symlink),
                           inode_of(3, FileType::Fifo)});
    EXPECT_FALSE(state.apply(op::LinkName{InodeNo(1), "l", InodeNo(2)}).ok());
    EXPECT_FALSE(state.apply(op::SetNode{InodeNo(3), 0x800, ""}).ok());
    ASSERT_TRUE(state.apply(op::SetNode{InodeNo(2), 0, "x"}).ok());
    ASSERT_TRUE(state.apply(op::LinkName{InodeNo(1), "l", InodeNo(2)}).ok());
    EXPECT_FALSE(state.apply(op::SetNode{InodeNo(2), 0, "y"}).ok());
    EXPECT_FALSE(state.apply(op::SetUnsynced{InodeNo(2), true}).ok());
    EXPECT_FALSE(state.apply(op::SetTakenOver{InodeNo(2), 0, 4096, true}).ok());
}

TEST(State, DirectoriesNeverFormARing) {
    auto state =
        state_of({inode_of(1, FileType::Directory), inode_of(2, FileType::Directory),
                  inode_of(3, FileType::Directory), op::LinkName{InodeNo(2), "x", InodeNo(3)}});
    EXPECT_FALSE(state.apply(op::LinkName{InodeNo(3), "y", InodeNo(2)}).ok());
    EXPECT_TRUE(state.apply(op::LinkName{InodeNo(1), "y", InodeNo(2)}).ok());
    EXPECT_EQ(state.path_of(InodeNo(3)), "/y/x");
}

TEST(State, DeepPathsAreWhole) {
    State state;
    ASSERT_TRUE(state.apply(inode_of(1, FileType::Directory)).ok());
    std::string path;
    for (std::uint64_t i = 2; i < 203; ++i) {
        ASSERT_TRUE(state.apply(inode_of(i, FileType::Directory)).ok());
        ASSERT_TRUE(
            state.apply(op::LinkName{InodeNo(i - 1), "n" + std::to_string(i), InodeNo(i)}).ok());
        path += "/n" + std::to_string(i);
        ASSERT_EQ(state.path_of(InodeNo(i)), path);
    }
}

TEST(State, DroppingCutsInsideAnExtent) {
    auto state = state_of(small_pool());
    ASSERT_TRUE(state.apply(op::DropExtents{InodeNo(3), 2 * kPageBytes}).ok());
    const auto left =
        state.inode(InodeNo(3))->extents.overlapping(InodeNo(3), FileRange(0, UINT64_MAX));
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(left[0], extent_of(3, 0, 0, 2));
    EXPECT_EQ(state.device(DeviceId(1))->map.record_count(SegmentNo(1)), 0u);
}

// Damaged histories: any bytes in place of a record's give an error or another sound state, never a
// crash.
TEST(State, DamagedRecordsNeverCrash) {
    testing::Random random(testing::test_seed());
    const auto record = encode_operations(pool_with_everything());
    for (int round = 0; round < 5000; ++round) {
        auto damaged = record;
        for (int i = 0; i < 2; ++i)
            damaged[random.below(damaged.size())] = static_cast<std::uint8_t>(random.below(256));
        State state;
        const auto applied = state.apply_record(damaged);
        if (applied) {
            (void)state.image();
        }
    }
}

}  // namespace
}  // namespace refault::store
