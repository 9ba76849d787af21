// Operations survive encoding, and nothing else decodes.
#include "store/operation.h"

#include <gtest/gtest.h>

#include "store/test_pool.h"

namespace refault::store {
namespace {

using testing::Random;

std::vector<Operation> one_of_each() {
    Attributes attributes;
    attributes.inode = InodeNo(7);
    attributes.type = FileType::Directory;
    attributes.mode = 01755;
    attributes.uid = 1000;
    attributes.gid = 1001;
    attributes.size_bytes = 1ull << 40;
    attributes.modified_ns = 1;
    attributes.changed_ns = 2;
    attributes.created_ns = 3;
    attributes.replicas = 2;
    attributes.on_loss = OnLoss::Rollback;
    const base::Uuid uuid = *base::Uuid::random();
    const SegmentOwner shared{SegmentOwner::Kind::SharedByUser, 1000, {}};
    const Extent extent{InodeNo(7), 4096, DeviceId(2), 8192, 4096, 1};
    return {op::SetPool{uuid, "pool"},
            op::SetCounters{InodeNo(1ull << 40), DeviceId(9)},
            op::AddDevice{DeviceId(2), uuid, "left", 1 << 21, 77},
            op::RemoveDevice{DeviceId(2)},
            op::CreateInode{attributes},
            op::UpdateInode{attributes},
            op::RemoveInode{InodeNo(7)},
            op::LinkName{InodeNo(1), "name", InodeNo(7)},
            op::UnlinkName{InodeNo(1), std::string(255, 'x')},
            op::OwnSegment{DeviceId(2), SegmentNo(3), shared},
            op::DisownSegment{DeviceId(2), SegmentNo(3)},
            op::AddExtent{extent},
            op::CutExtent{extent},
            op::DropExtents{InodeNo(7), 1 << 20},
            op::RenumberExtent{extent, 0},
            op::MarkLost{InodeNo(7),
                         {FileRange(4096, 8192), FailureKind::Checksum, DeviceId(2), 8192, 5}},
            op::ClearLost{InodeNo(7), 4096, 8192},
            op::SetUnsynced{InodeNo(7), true},
            op::LoseDevice{DeviceId(2), uuid, "left", 1 << 21, 77},
            op::NoteAbsent{extent},
            op::ForgetAbsent{DeviceId(2)},
            op::SetNode{InodeNo(7), 0x0801, "../target"},
            op::SetTimes{InodeNo(7), 4, 5, 6},
            op::SetExtended{InodeNo(7), "user.name", {1, 2, 3}},
            op::RemoveExtended{InodeNo(7), "user.name"},
            op::SetGeneration{DeviceId(2), 9},
            op::SetTakenOver{InodeNo(7), 4096, 8192, true}};
}

TEST(Operation, EveryKindSurvivesEncoding) {
    const auto operations = one_of_each();
    ASSERT_EQ(operations.size(), std::variant_size_v<Operation>);
    const auto bytes = encode_operations(operations);
    const auto decoded = decode_operations(bytes);
    ASSERT_TRUE(decoded.ok()) << decoded.error().message();
    ASSERT_EQ(decoded->size(), operations.size());
    for (std::size_t i = 0; i < operations.size(); ++i) EXPECT_EQ((*decoded)[i].index(), i);
    // Equal bytes stand for equal fields, the attributes included.
    EXPECT_EQ(encode_operations(*decoded), bytes);
    EXPECT_EQ(std::get<op::AddDevice>((*decoded)[2]), std::get<op::AddDevice>(operations[2]));
    EXPECT_EQ(std::get<op::OwnSegment>((*decoded)[9]), std::get<op::OwnSegment>(operations[9]));
    EXPECT_EQ(std::get<op::AddExtent>((*decoded)[11]), std::get<op::AddExtent>(operations[11]));
    EXPECT_EQ(std::get<op::CreateInode>((*decoded)[4]).attributes.mode, mode_t{01755});
    EXPECT_EQ(std::get<op::SetNode>((*decoded)[21]), std::get<op::SetNode>(operations[21]));
    EXPECT_EQ(std::get<op::SetTimes>((*decoded)[22]), std::get<op::SetTimes>(operations[22]));
    EXPECT_EQ(std::get<op::SetExtended>((*decoded)[23]), std::get<op::SetExtended>(operations[23]));
}

TEST(Operation, ASizeThatCannotBeRoundedUpIsRefused) {
    Attributes attributes;
    attributes.inode = InodeNo(7);
    for (const auto& [size, is_good] :
         {std::pair(kFileBytesMax, true), {kFileBytesMax + 1, false}, {UINT64_MAX, false}}) {
        attributes.size_bytes = size;
        const Operation operation = op::CreateInode{attributes};
        EXPECT_EQ(decode_operations(encode_operations({&operation, 1})).ok(), is_good) << size;
    }
}

TEST(Operation, CutShortIsCorrupt) {
    for (const auto& operation : one_of_each()) {
        const auto bytes = encode_operations({&operation, 1});
        for (std::size_t length = 1; length < bytes.size(); ++length) {
            const auto decoded = decode_operations(std::span(bytes).first(length));
            ASSERT_FALSE(decoded.ok()) << operation.index() << " of " << length << " bytes";
            EXPECT_EQ(decoded.error().code(), base::Code::Corrupt);
        }
    }
}

TEST(Operation, OverflowingExtentIsCorrupt) {
    const Operation bad = op::AddExtent{{InodeNo(7), UINT64_MAX - 4095, DeviceId(1), 0, 8192, 0}};
    EXPECT_FALSE(decode_operations(encode_operations({&bad, 1})).ok());
}

TEST(Operation, RandomBytesNeverCrash) {
    Random random(testing::test_seed());
    auto bytes = encode_operations(one_of_each());
    for (int round = 0; round < 20000; ++round) {
        auto damaged = bytes;
        for (int i = 0; i < 3; ++i)
            damaged[random.below(damaged.size())] = static_cast<std::uint8_t>(random.below(256));
        const auto decoded = decode_operations(damaged);
        if (decoded) {
            EXPECT_EQ(encode_operations(*decoded).size(), damaged.size());
        }
    }
}

}  // namespace
}  // namespace refault::store
