// EventLog: numbers without gaps, the newest kept, followers woken.
#include "daemon/event_log.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

namespace refault::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

TEST(EventLog, NumbersFromOneWithoutGaps) {
    EventLog log;
    EXPECT_EQ(log.last_sequence(), 0u);
    for (int i = 0; i < 5; ++i) log.publish({"tick", {}});
    const auto events = log.events_after(0, 100);
    ASSERT_EQ(events.size(), 5u);
    for (std::size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].sequence, i + 1);
    EXPECT_EQ(log.events_after(3, 100).front().sequence, 4u);
    EXPECT_EQ(log.events_after(0, 2).size(), 2u);
    EXPECT_TRUE(log.events_after(5, 100).empty());
    EXPECT_TRUE(log.events_after(UINT64_MAX, 100).empty());
}

TEST(EventLog, KeepsTheNewest) {
    EventLog log;
    for (std::size_t i = 0; i < EventLog::kEventsKept + 5; ++i) log.publish({"tick", {}});
    const auto all = log.events_after(0, SIZE_MAX);
    ASSERT_EQ(all.size(), EventLog::kEventsKept);
    EXPECT_EQ(all.front().sequence, 6u);
    EXPECT_EQ(all.back().sequence, EventLog::kEventsKept + 5);
    EXPECT_EQ(log.events_after(7, SIZE_MAX).front().sequence, 8u);
}

TEST(EventLog, WakesWhoWaits) {
    EventLog log;
    log.publish({"first", {}});
    std::thread publisher([&] { log.publish({"second", {}}); });
    const auto begin = steady_clock::now();
    while (log.events_after(1, 1).empty() && steady_clock::now() - begin < seconds(30))
        log.wait_for_event(1, seconds(30));
    publisher.join();
    EXPECT_LT(steady_clock::now() - begin, seconds(20)) << "the wait was not woken by the event";
    ASSERT_EQ(log.events_after(1, 9).size(), 1u);
}

TEST(EventLog, CloseLetsFollowersGo) {
    EventLog log;
    std::thread closer([&] { log.close(); });
    const auto begin = steady_clock::now();
    log.wait_for_event(0, seconds(60));
    closer.join();
    EXPECT_LT(steady_clock::now() - begin, seconds(30));
    log.wait_for_event(0, seconds(60));  // no wait any more
    EXPECT_LT(steady_clock::now() - begin, seconds(30));
}

TEST(EventLog, WaitEndsWithItsLimit) {
    EventLog log;
    const auto begin = steady_clock::now();
    log.wait_for_event(0, milliseconds(5));
    EXPECT_GE(steady_clock::now() - begin, milliseconds(5));
}

TEST(EventLog, JsonKeepsTypesAndTellsTheTime) {
    EventLog log;
    log.publish({"move",
                 {{"device", std::string("b")},
                  {"bytes", std::uint64_t{1} << 40},
                  {"seconds", 0.5},
                  {"is_last", true}}});
    auto event = log.events_after(0, 1).front();
    event.time = std::chrono::system_clock::time_point(milliseconds(1'700'000'000'007));
    const auto json = to_json(event);
    EXPECT_EQ(json.value("seq", 0), 1);
    EXPECT_EQ(json.value("kind", ""), "move");
    EXPECT_EQ(json.value("time", ""), "2023-11-14T22:13:20.007Z");
    EXPECT_EQ(json["device"], "b");
    EXPECT_EQ(json["bytes"].get<std::uint64_t>(), std::uint64_t{1} << 40);
    EXPECT_EQ(json["seconds"], 0.5);
    EXPECT_TRUE(json["is_last"].is_boolean());
}

}  // namespace
}  // namespace refault::daemon
