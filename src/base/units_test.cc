// Sizes as people write them.
#include "base/units.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "base/test_random.h"

namespace refault::base {
namespace {

TEST(Units, ParsesSuffixes) {
    const auto size = [](std::string_view text) {
        return parse_size(text) ? *parse_size(text) : 1;
    };
    EXPECT_EQ(size("0"), 0u);
    EXPECT_EQ(size("4096"), 4096u);
    EXPECT_EQ(size("4096B"), 4096u);
    EXPECT_EQ(size("4K"), 4096u);
    EXPECT_EQ(size("4k"), 4096u);
    EXPECT_EQ(size("4KB"), 4096u);
    EXPECT_EQ(size("4KiB"), 4096u);
    EXPECT_EQ(size("512M"), 512ull << 20);
    EXPECT_EQ(size("2G"), 2ull << 30);
    EXPECT_EQ(size("3T"), 3ull << 40);
    EXPECT_EQ(size("18446744073709551615"), UINT64_MAX);
    EXPECT_EQ(size("0x300000"), 3ull << 20);
    EXPECT_EQ(size("0X1b"), 27u);
    EXPECT_EQ(size("0xffffffffffffffff"), UINT64_MAX);
}

TEST(Units, RefusesWhatIsNoSize) {
    for (const char* text :
         {"", "K", "-1", "+1", " 1", "1 ", "1.5G", "1X", "1KK", "1GM", "0x", "0x-1", "0x10K", "0xg",
          "0x10000000000000000", "x10", "18446744073709551616", "16777216T", "lots"}) {
        const auto size = parse_size(text);
        ASSERT_FALSE(size) << text << " gave " << *size;
        EXPECT_EQ(size.error().code(), Code::Invalid);
        EXPECT_NE(size.error().message().find("512M"), std::string::npos)
            << "it says what to write";
    }
}

TEST(Units, FormatsWithOneDecimal) {
    EXPECT_EQ(format_size(0), "0 B");
    EXPECT_EQ(format_size(1023), "1023 B");
    EXPECT_EQ(format_size(1024), "1.0 KiB");
    EXPECT_EQ(format_size(1536), "1.5 KiB");
    EXPECT_EQ(format_size(512ull << 20), "512.0 MiB");
    EXPECT_EQ(format_size(1ull << 40), "1.0 TiB");
    EXPECT_EQ(format_size(UINT64_MAX), "16.0 EiB");
}

TEST(Units, ExactOnesAreReadBackToTheByte) {
    EXPECT_EQ(exact_size(0), "0");
    EXPECT_EQ(exact_size(1000), "1000");
    EXPECT_EQ(exact_size(256ull << 20), "256M");
    EXPECT_EQ(exact_size(1536), "1536");
    EXPECT_EQ(exact_size(3ull << 50), "3072T");
    testing::Random random;
    for (int round = 0; round < 1000; ++round) {
        const auto bytes = (random.below(1ull << 20) << random.below(40));
        const auto back = parse_size(exact_size(bytes));
        ASSERT_TRUE(back) << bytes;
        ASSERT_EQ(*back, bytes);
    }
}

TEST(Units, AcceptsADigitAndSuffixGrammarAndNothingElse) {
    testing::Random random;
    const std::regex grammar("[0-9]+[KMGTkmgt]?(iB|B)?|0x[0-9a-fA-F]+");
    constexpr std::string_view kLetters = "0123456789KMGTiB-. x";
    for (int round = 0; round < 20000; ++round) {
        std::string text;
        for (auto length = random.below(10); length > 0; --length)
            text += kLetters[random.below(kLetters.size())];
        // What is written correctly may still be more than 64 bits hold.
        const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
        if (digits > 7 && std::regex_match(text, grammar)) continue;
        ASSERT_EQ(parse_size(text).ok(), std::regex_match(text, grammar)) << text;
    }
}

}  // namespace
}  // namespace refault::base
