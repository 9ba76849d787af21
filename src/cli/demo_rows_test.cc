// What is read back counts as right only when every row says what its number demands.
#include "cli/demo_rows.h"

#include <gtest/gtest.h>

#include <set>

namespace refault::cli {
namespace {

std::string printed(std::uint64_t first, std::uint64_t end) {
    std::string text;
    for (auto row = first; row < end; ++row)
        text += std::to_string(row) + "|" + row_text(row) + "\n";
    return text;
}

TEST(DemoRows, NoTwoRowsSayTheSame) {
    std::set<std::string> texts;
    for (std::uint64_t row = 1; row <= 1000; ++row) {
        EXPECT_EQ(row_text(row).size(), kRowTextBytes);
        texts.insert(row_text(row));
    }
    EXPECT_EQ(texts.size(), 1000u);
}

TEST(DemoRows, TheSumOfWhatIsPrintedIsThatOfTheRows) {
    EXPECT_EQ(sum_of(printed(3, 20)), sum_of(DemoRows{3, 20}));
    EXPECT_EQ(sum_of(""), sum_of(DemoRows{}));
    EXPECT_EQ(sum_of(printed(3, 20)).rows, 17u);
}

TEST(DemoRows, ARowThatIsMissingTwiceOrChangedIsSeen) {
    const auto right = sum_of(DemoRows{1, 10});
    EXPECT_NE(sum_of(printed(1, 9)), right);
    EXPECT_NE(sum_of(printed(1, 9) + printed(8, 9)), right);
    auto changed = printed(1, 10);
    changed[changed.size() - 2] ^= 1;
    EXPECT_NE(sum_of(changed), right);
}

TEST(DemoRows, ATransactionInsertsItsRowsAndRemovesTheOldest) {
    const auto sql = transaction_sql({5, 7}, 1);
    EXPECT_EQ(sql, "BEGIN IMMEDIATE; INSERT INTO rows VALUES(5,'" + row_text(5) + "'),(6,'" +
                       row_text(6) + "'); COMMIT;");
    EXPECT_NE(transaction_sql({5, 7}, 3).find("; DELETE FROM rows WHERE id<3; COMMIT;"),
              std::string::npos);
}

}  // namespace
}  // namespace refault::cli
