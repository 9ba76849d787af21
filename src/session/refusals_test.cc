// Refusals are all counted; told are the newest, within bounds.
#include "session/refusals.h"

#include <gtest/gtest.h>

#include "session/limits.h"

namespace refault::session {
namespace {

using std::chrono::steady_clock;

TEST(Refusals, AreAllCountedAndNotAllTold) {
    Refusals refusals;
    const auto begin = steady_clock::now();
    int told = 0;
    for (int i = 0; i < 10'000; ++i)
        if (!refusals.note("session", i % 2 == 0 ? "silent" : "bad-message", "x", begin).empty())
            ++told;
    EXPECT_EQ(told, static_cast<int>(Refusals::kBurst));
    const auto later = refusals.note("session", "silent", "who", begin + std::chrono::seconds(1));
    EXPECT_TRUE(later.starts_with("who (and ")) << later;
    std::uint64_t all = 0;
    for (const auto& count : refusals.counts()) all += count.count;
    EXPECT_EQ(all, 10'001u);
    EXPECT_EQ(refusals.counts().size(), 2u);
}

TEST(Limits, SessionsLeaveDescriptorsForTheRest) {
    Limits limits;
    EXPECT_EQ(within_descriptors(limits, 1u << 20).sessions, limits.sessions);
    const auto few = within_descriptors(limits, 1024);
    EXPECT_LE(few.sessions * kDescriptorsPerSession + kDescriptorsKept, 1024u);
    EXPECT_GT(few.sessions, 0u);
    EXPECT_LE(few.sessions_per_user, few.sessions);
    EXPECT_EQ(within_descriptors(limits, 10).sessions, 1u);
}

}  // namespace
}  // namespace refault::session
