// A set of ranges against a set of bytes.
#include "base/range_set.h"

#include <gtest/gtest.h>

#include <array>

#include "base/test_random.h"

namespace refault::base {
namespace {

using Parts = std::vector<FileRange>;

TEST(RangeSet, AddMergesWhatTouches) {
    RangeSet set;
    set.add(FileRange(0, 10));
    set.add(FileRange(20, 30));
    EXPECT_EQ(set.parts().size(), 2u);
    set.add(FileRange(10, 20));
    EXPECT_EQ(set.parts(), Parts{FileRange(0, 30)});
    EXPECT_EQ(set.length_bytes(), 30u);
}

TEST(RangeSet, SubtractSplitsAPartInTwo) {
    RangeSet set;
    set.add(FileRange(0, 30));
    set.subtract(FileRange(10, 20));
    EXPECT_EQ(set.parts(), (Parts{FileRange(0, 10), FileRange(20, 30)}));
    EXPECT_EQ(set.gaps(FileRange(5, 25)), Parts{FileRange(10, 20)});
    EXPECT_FALSE(set.overlaps(FileRange(10, 20)));
    EXPECT_TRUE(set.overlaps(FileRange(19, 21)));
}

TEST(RangeSet, EmptyRangesChangeNothing) {
    RangeSet set;
    set.add(FileRange(5, 5));
    EXPECT_TRUE(set.empty());
    set.add(FileRange(0, 10));
    set.subtract(FileRange(5, 5));
    EXPECT_EQ(set.parts(), Parts{FileRange(0, 10)});
    EXPECT_FALSE(set.overlaps(FileRange(5, 5)));
}

constexpr std::uint64_t kSpan = 48;
using Model = std::array<bool, kSpan>;

// What parts() must be: the longest runs of bytes that are in the model (or, for gaps, are not).
Parts runs(const Model& model, FileRange within, bool is_in) {
    Parts found;
    for (auto at = within.begin(); at < within.end();) {
        auto end = at;
        while (end < within.end() && model[end] == is_in) ++end;
        if (end > at) found.emplace_back(at, end);
        at = std::max(end, at + 1);
    }
    return found;
}

TEST(RangeSet, AgreesWithASetOfBytes) {
    testing::Random random;
    RangeSet set;
    Model model{};
    for (int round = 0; round < 20000; ++round) {
        const auto begin = random.below(kSpan);
        const auto range = FileRange(begin, begin + random.below(kSpan - begin + 1));
        const bool is_add = random.below(2) == 0;
        if (is_add)
            set.add(range);
        else
            set.subtract(range);
        for (auto at = range.begin(); at < range.end(); ++at) model[at] = is_add;

        ASSERT_EQ(set.parts(), runs(model, FileRange(0, kSpan), true)) << "round " << round;
        const auto low = random.below(kSpan);
        const auto within = FileRange(low, low + random.below(kSpan - low + 1));
        ASSERT_EQ(set.parts(within), runs(model, within, true)) << "round " << round;
        ASSERT_EQ(set.gaps(within), runs(model, within, false)) << "round " << round;
        ASSERT_EQ(set.overlaps(within), !runs(model, within, true).empty()) << "round " << round;
    }
}

}  // namespace
}  // namespace refault::base
