// What people write and read around a pull.
#include "cli/pull_text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace refault::cli {
namespace {

TEST(PullText, Durations) {
    for (const auto& [text, ms] :
         std::vector<std::pair<std::string, std::uint64_t>>{{"30s", 30'000},
                                                            {"5m", 300'000},
                                                            {"200ms", 200},
                                                            {"7", 7'000},
                                                            {"999999999s", 999'999'999'000}}) {
        auto parsed = parse_duration_ms(text);
        ASSERT_TRUE(parsed) << text;
        EXPECT_EQ(*parsed, ms) << text;
    }
    for (const auto* text :
         {"", "s", "0", "0s", "-1s", "1h", "1.5s", " 1s", "1 s", "1s ", "9999999999s", "ms"})
        EXPECT_FALSE(parse_duration_ms(text)) << text;
}

TEST(PullText, Rates) {
    EXPECT_EQ(*parse_rate("500M"), 500ull << 20);
    EXPECT_EQ(*parse_rate("2G/s"), 2ull << 30);
    EXPECT_EQ(*parse_rate("100000"), 100'000u);
    for (const auto* text : {"", "/s", "0", "0M/s", "fast", "-1", "1M/m", "1.5G"}) {
        auto parsed = parse_rate(text);
        ASSERT_FALSE(parsed) << text;
        EXPECT_NE(parsed.error().message().find(text), std::string::npos);
    }
}

TEST(PullText, HundredPercentIsSaidAtTheEndOnly) {
    EXPECT_EQ(percent_done(0, 0), 100u);
    EXPECT_EQ(percent_done(0, 7), 0u);
    EXPECT_EQ(percent_done(999, 1000), 99u);
    EXPECT_EQ(percent_done(1000, 1000), 100u);
    EXPECT_LE(percent_done(UINT64_MAX - 1, UINT64_MAX), 100u);
    EXPECT_EQ(percent_done(UINT64_MAX / 2, UINT64_MAX), 50u);
}

TEST(PullText, ProgressLine) {
    const nlohmann::json status = {{"phase", "moving-data"},
                                   {"bytes_total", 1000ull << 20},
                                   {"bytes_done", 500ull << 20},
                                   {"bytes_moved", 500'000'000},
                                   {"moving_seconds", 0.5}};
    const auto line = progress_line("b", status);
    for (const auto* part :
         {"b: moving-data", " 50 %", "500.0 MiB of 1000.0 MiB", "1.00 GB/s", "1 s left"})
        EXPECT_NE(line.find(part), std::string::npos) << line;
    // Nothing measured yet: no guess.
    EXPECT_EQ(progress_line("b", {{"phase", "moving-metadata"}, {"bytes_total", 10}}).find("left"),
              std::string::npos);
}

}  // namespace
}  // namespace refault::cli
