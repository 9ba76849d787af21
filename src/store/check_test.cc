// The checker sees what is broken: states and books that contradict each other are reported.
#include <gtest/gtest.h>

#include "store/check_report.h"
#include "store/test_pool.h"

namespace refault::store {
namespace {

using base::kPageBytes;

class Check : public ::testing::Test {
  protected:
    static constexpr std::uint64_t kSegmentBytes = 64 * 1024;
    const SegmentOwner shared{SegmentOwner::Kind::SharedByUser, 0, {}};

    void SetUp() override {
        apply(op::SetPool{*base::Uuid::random(), "pool"});
        apply(op::AddDevice{DeviceId(1), *base::Uuid::random(), "a", kSegmentBytes, 8});
        Attributes attributes;
        attributes.inode = base::kRootInode;
        attributes.type = FileType::Directory;
        apply(op::CreateInode{attributes});
        attributes.inode = InodeNo(2);
        attributes.type = FileType::Regular;
        attributes.size_bytes = 3 * kPageBytes;
        file = attributes;
        apply(op::CreateInode{attributes});
        apply(op::LinkName{base::kRootInode, "f", InodeNo(2)});
        apply(op::OwnSegment{DeviceId(1), SegmentNo(0), shared});
        apply(op::AddExtent{extent});
        allocator.add_device(DeviceId(1), kSegmentBytes, 8);
        allocator.own({DeviceId(1), SegmentNo(0)}, shared);
        allocator.take(DeviceId(1), extent.device_range());
    }
    void apply(const Operation& operation) { ASSERT_TRUE(state.apply(operation).ok()); }
    std::string report() {
        Report lines;
        check_inodes(
            state, [&](InodeNo inode) { return pins.contains(inode); }, lines);
        check_segments(state, allocator, moves, lines);
        std::string text;
        for (const auto& line : lines.take()) text += line + "\n";
        return text;
    }
    void expect(const std::string& part) {
        EXPECT_NE(report().find(part), std::string::npos) << report();
    }

    Attributes file;
    const Extent extent{InodeNo(2), 0, DeviceId(1), 0, 3 * kPageBytes, 0};
    State state;
    Allocator allocator;
    MoveBook moves;
    std::map<InodeNo, std::uint32_t> pins;
};

TEST_F(Check, SoundStateHasNothingToReport) {
    EXPECT_EQ(report(), "");
}

TEST_F(Check, SizeBeforeTheLastExtent) {
    file.size_bytes -= kPageBytes;
    apply(op::UpdateInode{file});
    expect("beyond the end");
}

TEST_F(Check, CopyWithoutAPrimary) {
    apply(op::CutExtent{{InodeNo(2), kPageBytes, DeviceId(1), kPageBytes, kPageBytes, 0}});
    apply(op::AddExtent{{InodeNo(2), kPageBytes, DeviceId(1), kPageBytes, kPageBytes, 1}});
    expect("copy of nothing");
    apply(op::MarkLost{
        InodeNo(2),
        {FileRange(kPageBytes, 2 * kPageBytes), FailureKind::Poison, DeviceId(1), 0, 1}});
    EXPECT_EQ(report(), "");
}

TEST_F(Check, LossBeyondTheEnd) {
    apply(op::MarkLost{InodeNo(2),
                       {FileRange(0, 4 * kPageBytes), FailureKind::Poison, DeviceId(1), 0, 1}});
    expect("beyond its end");
}

TEST_F(Check, FileWithNeitherNameNorPin) {
    apply(op::UnlinkName{base::kRootInode, "f"});
    expect("neither name nor holder");
    pins[InodeNo(2)] = 1;
    EXPECT_EQ(report(), "");
}

TEST_F(Check, ExtentInFreeSpace) {
    allocator.release(DeviceId(1), DeviceRange(0, kPageBytes));
    expect("free space");
    expect("less space taken");
}

TEST_F(Check, SegmentWithTwoOwners) {
    allocator.release(DeviceId(1), extent.device_range());
    allocator.disown({DeviceId(1), SegmentNo(0)});
    allocator.own({DeviceId(1), SegmentNo(0)}, {SegmentOwner::Kind::Exclusive, 0, InodeNo(9)});
    allocator.take(DeviceId(1), extent.device_range());
    expect("two owners");
}

TEST_F(Check, EmptySegmentWithAnOwner) {
    apply(op::OwnSegment{DeviceId(1), SegmentNo(3), shared});
    allocator.own({DeviceId(1), SegmentNo(3)}, shared);
    expect("nothing in it");
}

TEST_F(Check, ReservationWithoutSpace) {
    moves.reserve({extent, DeviceId(1), 4 * kPageBytes, {}}, shared);
    expect("less space taken");
}

TEST(CheckFiles, LostAndStrayFilesAreReported) {
    testing::TestPool pool;
    pool.create(1);
    pool.make_file("/f", 100);
    auto device = *pool->device(pool.id("a"));
    ASSERT_TRUE(device->create_segment(SegmentNo(7)).ok());
    ASSERT_EQ(pool->check().size(), 1u);
    EXPECT_NE(pool->check()[0].find("segment 7 has a file but no owner"), std::string::npos);
    ASSERT_TRUE(device->release_segment(SegmentNo(7)).ok());
    ASSERT_TRUE(device->release_segment(SegmentNo(0)).ok());
    ASSERT_EQ(pool->check().size(), 1u);
    EXPECT_NE(pool->check()[0].find("segment 0 has an owner but no file"), std::string::npos);
}

}  // namespace
}  // namespace refault::store
