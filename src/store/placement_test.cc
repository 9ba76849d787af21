// The books of free space against plain arrays, and the chunk rule on its own.
#include "store/placement.h"

#include <gtest/gtest.h>

#include "store/test_pool.h"

namespace refault::store {
namespace {

using base::kHugePageBytes;
using base::kPageBytes;
using testing::Random;

const SegmentOwner kShared{SegmentOwner::Kind::SharedByUser, 1000, {}};
SegmentOwner exclusive(std::uint64_t inode) {
    return {SegmentOwner::Kind::Exclusive, 0, InodeNo(inode)};
}

std::uint64_t sum(const std::vector<Piece>& pieces) {
    std::uint64_t bytes = 0;
    for (const auto& piece : pieces) bytes += piece.length;
    return bytes;
}

TEST(SegmentSpace, AgreesWithAnArrayOfPages) {
    Random random(testing::test_seed());
    constexpr std::uint64_t kPages = 64;
    SegmentSpace space(kPages);
    std::vector<bool> taken(kPages, false);
    const auto all = [&](std::uint64_t offset, std::uint64_t length, bool value) {
        for (auto i = offset; i < offset + length; ++i)
            if (taken[i] != value) return false;
        return true;
    };
    for (int step = 0; step < 50000; ++step) {
        const auto length = 1 + random.below(8);
        const auto modulus = random.one_in(2) ? 1 : 8;
        const auto remainder = random.below(modulus);
        std::optional<std::uint64_t> expected;
        for (std::uint64_t i = 0; i + length <= kPages && !expected; ++i)
            if (i % modulus == remainder && all(i, length, false)) expected = i;
        ASSERT_EQ(space.find(length, modulus, remainder), expected);
        const auto offset = random.below(kPages - length + 1);
        ASSERT_EQ(space.is_free(offset, length), all(offset, length, false));
        if (expected && random.below(10) < 5) {
            space.take(*expected, length);
            std::fill_n(taken.begin() + static_cast<long>(*expected), length, true);
        } else if (all(offset, length, true)) {
            space.release(offset, length);
            std::fill_n(taken.begin() + static_cast<long>(offset), length, false);
        }
        ASSERT_EQ(space.taken_bytes(),
                  static_cast<std::uint64_t>(std::count(taken.begin(), taken.end(), true)));
    }
}

TEST(Allocator, KeepsTheReserveForMetadata) {
    Allocator allocator;
    allocator.add_device(DeviceId(1), 64 * 1024, 5);
    EXPECT_EQ(allocator.free_bytes(DeviceId(1)), 3 * 64 * 1024u);
    EXPECT_EQ(sum(Placement(allocator).place(exclusive(7), FileRange(0, 1 << 20))), 3 * 64 * 1024u);
    EXPECT_EQ(allocator.free_bytes(DeviceId(1)), 0u);
    EXPECT_TRUE(allocator.own_for_metadata(DeviceId(1)));
    EXPECT_TRUE(allocator.own_for_metadata(DeviceId(1)));
    EXPECT_FALSE(allocator.own_for_metadata(DeviceId(1)));
}

// Random growth of files of several owners on devices of several shapes; every page has one owner,
// whose segment it is.
TEST(Placement, NeverGivesAPageTwiceNorASegmentToTwoOwners) {
    Random random(testing::test_seed());
    for (int round = 0; round < 30; ++round) {
        Allocator allocator;
        const std::uint64_t shapes[] = {64 * 1024, 1 << 20, 4 << 20};
        std::map<DeviceId, std::uint64_t> bytes;
        for (std::uint32_t i = 1; i <= 3; ++i) {
            bytes[DeviceId(i)] = shapes[random.below(3)];
            allocator.add_device(DeviceId(i), bytes[DeviceId(i)],
                                 4 + static_cast<std::uint32_t>(random.below(8)));
        }
        std::map<std::pair<DeviceId, std::uint64_t>, SegmentOwner> pages;
        std::map<SegmentKey, SegmentOwner> owners;
        std::vector<Piece> placed;
        for (int step = 0; step < 200; ++step) {
            if (!placed.empty() && random.one_in(3)) {
                const auto at = random.below(placed.size());
                const auto piece = placed[at];
                placed.erase(placed.begin() + static_cast<long>(at));
                allocator.release(piece.device, piece.device_range());
                for (auto page = piece.device_offset; page < piece.device_offset + piece.length;
                     page += kPageBytes)
                    ASSERT_EQ(pages.erase({piece.device, page}), 1u);
                const SegmentKey key{piece.device, SegmentNo(static_cast<std::uint32_t>(
                                                       piece.device_offset / bytes[piece.device]))};
                if (allocator.taken_bytes(key) > 0) continue;
                allocator.disown(key);
                owners.erase(key);
                continue;
            }
            const auto begin = random.below(1024) * kPageBytes;
            const FileRange range(
                begin, begin + (1 + random.below(random.one_in(2) ? 10 : 1500)) * kPageBytes);
            const auto owner = random.one_in(2) ? exclusive(1 + random.below(4)) : kShared;
            auto expected = range.begin();
            for (const auto& piece : Placement(allocator).place(owner, range)) {
                ASSERT_EQ(piece.file_offset, expected);
                expected += piece.length;
                const auto segment_bytes = bytes[piece.device];
                const SegmentKey key{
                    piece.device,
                    SegmentNo(static_cast<std::uint32_t>(piece.device_offset / segment_bytes))};
                ASSERT_LE(piece.device_offset % segment_bytes + piece.length, segment_bytes);
                ASSERT_EQ(owners.try_emplace(key, owner).first->second, owner);
                ASSERT_EQ(allocator.owner(key), owner);
                for (auto page = piece.device_offset; page < piece.device_offset + piece.length;
                     page += kPageBytes)
                    ASSERT_TRUE(pages.emplace(std::pair(piece.device, page), owner).second);
                placed.push_back(piece);
            }
            ASSERT_LE(expected, range.end());
        }
    }
}

TEST(Placement, WholeHugePagesLieWhereTheyCanBeMappedHuge) {
    Random random(testing::test_seed());
    for (int round = 0; round < 200; ++round) {
        Allocator allocator;
        allocator.add_device(DeviceId(1), 8 << 20, 12);
        for (int file = 1; file < 6; ++file) {
            const auto begin = random.below(1024) * kPageBytes;
            const FileRange range(begin, begin + (1 + random.below(3000)) * kPageBytes);
            const auto owner =
                random.one_in(3) ? kShared : exclusive(static_cast<std::uint64_t>(file));
            for (const auto& piece : Placement(allocator).place(owner, range)) {
                // Every whole 2 MiB of the file inside of one piece.
                const auto first = base::align_up(piece.file_offset, kHugePageBytes);
                if (first + kHugePageBytes > piece.file_offset + piece.length) continue;
                // A piece may also be joined from small chunks whose borders lie inside of a huge
                // page.
                if (piece.file_offset % kHugePageBytes != 0 && piece.file_offset != range.begin())
                    continue;
                EXPECT_EQ(piece.device_offset % kHugePageBytes, piece.file_offset % kHugePageBytes);
            }
        }
    }
}

TEST(Placement, FileOfManySegmentsSpreadsOverDevices) {
    Allocator allocator;
    allocator.add_device(DeviceId(1), 2 << 20, 10);
    allocator.add_device(DeviceId(2), 2 << 20, 10);
    std::map<DeviceId, std::uint64_t> on;
    for (const auto& piece : Placement(allocator).place(exclusive(1), FileRange(0, 16 << 20)))
        on[piece.device] += piece.length;
    EXPECT_EQ(on[DeviceId(1)], 8u << 20);
    EXPECT_EQ(on[DeviceId(2)], 8u << 20);
}

TEST(Placement, SmallFilesShareBigOnesDoNot) {
    Allocator allocator;
    allocator.add_device(DeviceId(1), 2 << 20, 10);
    EXPECT_EQ(Placement::owner_for_growth(allocator, InodeNo(5), 1000, kPageBytes), kShared);
    EXPECT_EQ(Placement::owner_for_growth(allocator, InodeNo(5), 1000, 1 << 20), exclusive(5));
    Placement(allocator).place(exclusive(5), FileRange(0, 1 << 20));
    EXPECT_EQ(Placement::owner_for_growth(allocator, InodeNo(5), 1000, kPageBytes), exclusive(5));
}

TEST(Placement, GrowthContinuesBehindTheLastPiece) {
    Allocator allocator;
    allocator.add_device(DeviceId(1), 2 << 20, 10);
    auto first = Placement(allocator).place(kShared, FileRange(0, kPageBytes));
    // A hole before it would be the first fit.
    auto other = Placement(allocator).place(kShared, FileRange(0, kPageBytes));
    const auto second =
        Placement(allocator).place(kShared, FileRange(kPageBytes, 3 * kPageBytes), other[0]);
    allocator.release(DeviceId(1), first[0].device_range());
    ASSERT_EQ(second.size(), 1u);
    EXPECT_EQ(second[0].device_offset, other[0].device_offset + kPageBytes);
}

TEST(Placement, TakesFragmentsBeforeItGivesUp) {
    Allocator allocator;
    allocator.add_device(DeviceId(1), 64 * 1024, 3);
    auto pages = std::vector<Piece>();
    for (int i = 0; i < 16; ++i)
        pages.push_back(Placement(allocator).place(kShared, FileRange(0, kPageBytes))[0]);
    for (std::size_t i = 0; i < 16; i += 2) allocator.release(DeviceId(1), pages[i].device_range());
    EXPECT_EQ(sum(Placement(allocator).place(kShared, FileRange(0, 12 * kPageBytes))),
              8 * kPageBytes);
}

TEST(Placement, WholePlaceOrNothing) {
    Allocator allocator;
    allocator.add_device(DeviceId(1), 64 * 1024, 4);
    ASSERT_TRUE(Placement(allocator).place_whole(kShared, FileRange(0, 40 * 1024)));
    ASSERT_TRUE(Placement(allocator).place_whole(kShared, FileRange(0, 40 * 1024)));
    EXPECT_FALSE(Placement(allocator).place_whole(kShared, FileRange(0, 40 * 1024)));
    // What the attempt took is free again.
    EXPECT_EQ(sum(Placement(allocator).place(kShared, FileRange(0, 48 * 1024))), 48 * 1024u);
}

TEST(Placement, NothingOnLeavingOrExcludedDevices) {
    Allocator allocator;
    for (std::uint32_t i = 1; i <= 3; ++i) allocator.add_device(DeviceId(i), 64 * 1024, 6);
    Placement(allocator).place(exclusive(1), FileRange(0, 6 * 64 * 1024 - 3 * kPageBytes));
    allocator.set_leaving(DeviceId(1), true);
    EXPECT_EQ(allocator.free_bytes(DeviceId(1)), 0u);
    for (const auto& piece :
         Placement(allocator, {DeviceId(2)}).place(exclusive(1), FileRange(0, 1 << 20)))
        EXPECT_EQ(piece.device, DeviceId(3));
}

}  // namespace
}  // namespace refault::store
