// What is written as metrics, whatever the names hold; and that the reader of these tests is
// strict.
#include "daemon/metrics_text.h"

#include <gtest/gtest.h>

#include "daemon/test_metrics.h"

namespace refault::daemon {
namespace {

using Type = MetricsText::Type;

TEST(MetricsText, AFamilyHasHelpTypeAndItsSamples) {
    MetricsText out;
    out.family("refault_x_bytes", Type::Gauge, "Bytes of x.");
    out.sample(0, {{"device", "a"}});
    out.sample(1.5, {{"device", "b"}, {"state", "on"}});
    out.counter("refault_x_total", "Number of x.", 3);
    EXPECT_EQ(out.text(),
              "# HELP refault_x_bytes Bytes of x.\n"
              "# TYPE refault_x_bytes gauge\n"
              "refault_x_bytes{device=\"a\"} 0\n"
              "refault_x_bytes{device=\"b\",state=\"on\"} 1.5\n"
              "# HELP refault_x_total Number of x.\n"
              "# TYPE refault_x_total counter\n"
              "refault_x_total 3\n");
}

TEST(MetricsText, NamesCannotBreakTheFormat) {
    MetricsText out;
    out.family("refault_x", Type::Gauge, "X.");
    out.sample(1, {{"pool", "a\\b\"c\nd\te"}});
    out.sample(2, {{"pool", "\xff\xfe} 7"}});
    out.sample(3, {{"pool", ""}});
    const ParsedMetrics parsed(out.text());
    EXPECT_EQ(parsed.error(), "");
    EXPECT_EQ(parsed.value("refault_x{pool=\"a\\\\b\\\"c\\nd\te\"}"), 1);
    // What is not UTF-8 is replaced, as in JSON.
    EXPECT_EQ(parsed.value("refault_x{pool=\"\xef\xbf\xbd\xef\xbf\xbd} 7\"}"), 2);
    EXPECT_EQ(parsed.samples().size(), 3u);
}

TEST(MetricsText, NumbersKeepEveryByte) {
    MetricsText out;
    out.gauge("refault_large_bytes", "X.", 9007199254740991.0);
    out.gauge("refault_whole_bytes", "X.", 281474976710657.0);
    out.gauge("refault_part_seconds", "X.", 0.1);
    out.gauge("refault_below", "X.", -3);
    const ParsedMetrics parsed(out.text());
    EXPECT_EQ(parsed.error(), "");
    EXPECT_EQ(parsed.value("refault_large_bytes"), 9007199254740991.0);
    EXPECT_NE(out.text().find("refault_whole_bytes 281474976710657\n"), std::string::npos);
    EXPECT_EQ(parsed.value("refault_part_seconds"), 0.1);
    EXPECT_EQ(parsed.value("refault_below"), -3);
}

TEST(MetricsText, AHistogramCountsUpwards) {
    MetricsText out;
    out.histogram("refault_x_seconds", "X.", {0.00025, 0.001}, {2, 0, 3}, 1.25);
    const ParsedMetrics parsed(out.text());
    EXPECT_EQ(parsed.error(), "");
    EXPECT_EQ(parsed.value("refault_x_seconds_bucket{le=\"0.00025\"}"), 2);
    EXPECT_EQ(parsed.value("refault_x_seconds_bucket{le=\"0.001\"}"), 2);
    EXPECT_EQ(parsed.value("refault_x_seconds_bucket{le=\"+Inf\"}"), 5);
    EXPECT_EQ(parsed.value("refault_x_seconds_count"), 5);
    EXPECT_EQ(parsed.value("refault_x_seconds_sum"), 1.25);
}

TEST(MetricsText, ASampleThatComesTwiceIsWrittenOnce) {
    MetricsText out;
    out.family("refault_x", Type::Gauge, "X.");
    out.sample(1, {{"device", "\xff"}});
    out.sample(2, {{"device", "\xfe"}});
    const ParsedMetrics parsed(out.text());
    EXPECT_EQ(parsed.error(), "");
    EXPECT_EQ(parsed.samples().size(), 1u);
}

TEST(MetricsText, TheReaderOfTheseTestsRefusesWhatIsWrong) {
    const std::string head = "# HELP a_b A.\n# TYPE a_b gauge\n";
    EXPECT_EQ(ParsedMetrics(head + "a_b 1\n").error(), "");
    for (const auto* wrong :
         {"a_b 1", "a_b 1\na_b 2\n", "c 1\n", "a_b{} 1\n", "a_b{x=\"1} 1\n", "a_b{x=\"\\t\"} 1\n",
          "a_b{x=\"1\",x=\"2\"} 1\n", "a_b NaN\n", "a_b +Inf\n", "a_b\n", "a_b 1 \n", "a_b  1\n",
          "\n", "# HELP a_b A.\n# TYPE a_b gauge\n", "# HELP c C.\n", "# HELP c C.\nc 1\n",
          "# TYPE c gauge\n", "# HELP c C.\n# TYPE c counter\nc 1\n",
          "# HELP c C.\n# TYPE c histogram\nc_count 1\n"})
        EXPECT_NE(ParsedMetrics(head + wrong).error(), "") << wrong;
}

}  // namespace
}  // namespace refault::daemon
