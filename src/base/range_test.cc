// Half-open ranges: neighbours do not overlap, empty ones contain nothing.
#include "base/range.h"

#include <gtest/gtest.h>

#include "base/test_random.h"

namespace refault::base {
namespace {

static_assert(!std::is_convertible_v<FileRange, DeviceRange>, "kinds of ranges must not mix");
static_assert(!std::is_constructible_v<FileRange, AddressRange>, "kinds of ranges must not mix");

TEST(Range, EndIsNotInside) {
    const FileRange range(10, 20);
    EXPECT_EQ(range.length(), 10u);
    EXPECT_TRUE(range.contains(10));
    EXPECT_TRUE(range.contains(19));
    EXPECT_FALSE(range.contains(20));
    EXPECT_FALSE(range.contains(9));
}

TEST(Range, NeighboursDoNotOverlap) {
    EXPECT_FALSE(FileRange(0, 10).overlaps(FileRange(10, 20)));
    EXPECT_FALSE(FileRange(10, 20).overlaps(FileRange(0, 10)));
    EXPECT_TRUE(FileRange(0, 11).overlaps(FileRange(10, 20)));
}

TEST(Range, ContainsItselfAndEmptyPartsOfItself) {
    const FileRange range(10, 20);
    EXPECT_TRUE(range.contains(range));
    EXPECT_TRUE(range.contains(FileRange(20, 20)));
    EXPECT_FALSE(range.contains(FileRange(10, 21)));
    EXPECT_FALSE(range.contains(FileRange(9, 20)));
}

TEST(Range, ReachesTheLastAddress) {
    const auto last = DeviceRange::of_length(UINT64_MAX - 4096, 4096);
    EXPECT_EQ(last.end(), UINT64_MAX);
    EXPECT_TRUE(last.contains(UINT64_MAX - 1));
}

TEST(Range, IntersectionAgreesWithEveryByte) {
    testing::Random random;
    for (int round = 0; round < 2000; ++round) {
        const auto make = [&] { return FileRange::of_length(random.below(24), random.below(12)); };
        const FileRange a = make(), b = make();
        const FileRange both = a.intersect(b);
        bool is_any_common = false;
        for (std::uint64_t at = 0; at < 40; ++at) {
            const bool is_common = a.contains(at) && b.contains(at);
            is_any_common = is_any_common || is_common;
            ASSERT_EQ(both.contains(at), is_common)
                << a.begin() << ".." << a.end() << " and " << b.begin() << ".." << b.end();
        }
        if (!a.empty() && !b.empty()) {
            ASSERT_EQ(a.overlaps(b), is_any_common);
        }
    }
}

TEST(Range, Alignment) {
    EXPECT_EQ(align_down(8191, kPageBytes), 4096u);
    EXPECT_EQ(align_up(4097, kPageBytes), 8192u);
    EXPECT_EQ(align_up(4096, kPageBytes), 4096u);
    EXPECT_TRUE(is_aligned(0, kPageBytes));
    EXPECT_FALSE(is_aligned(1, kPageBytes));
}

TEST(RangeDeathTest, EndBeforeBeginAndOverflowEndTheProcess) {
    EXPECT_DEATH((void)FileRange(2, 1), "CHECK");
    EXPECT_DEATH((void)FileRange::of_length(UINT64_MAX, 2), "CHECK");
}

}  // namespace
}  // namespace refault::base
