// Pins that the kernel really holds: buffers registered with io_uring.
#include "failure/pin_watch.h"

#include <gtest/gtest.h>

#include <chrono>

#include "base/range.h"
#include "failure/test_pinned_pages.h"

namespace refault::failure {
namespace {

using testing::PinnedPages;

class PinWatchTest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "the counts take root";
        if (!PinnedPages(memory_, sizeof memory_).is_pinned())
            GTEST_SKIP() << "io_uring is not allowed here";
        if (!becomes_quiet()) GTEST_SKIP() << "something else in the system keeps pages pinned";
    }
    // Other programs pin pages, too, but not all the time.
    bool becomes_quiet() {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (std::chrono::steady_clock::now() < deadline)
            if (watch_.nothing_was_pinned(watch_.ask())) return true;
        return false;
    }
    alignas(base::kPageBytes) char memory_[base::kPageBytes] = {};
    PinWatch watch_;
};

TEST_F(PinWatchTest, APinThatIsHeldIsSeen) {
    const PinnedPages pages(memory_, sizeof memory_);
    EXPECT_FALSE(watch_.nothing_was_pinned(watch_.ask()));
    EXPECT_FALSE(watch_.nothing_was_pinned(watch_.ask())) << "the same at both ends is not enough";
    EXPECT_GT(watch_.pinned_pages(), 0u);
}

TEST_F(PinWatchTest, APinThatCameAndWentIsSeen) {
    { const PinnedPages pages(memory_, sizeof memory_); }
    EXPECT_FALSE(watch_.nothing_was_pinned(watch_.ask()));
    EXPECT_TRUE(becomes_quiet());
}

TEST_F(PinWatchTest, ALaterLookOfAnotherAnswersToo) {
    const auto early = watch_.ask();
    const PinnedPages pages(memory_, sizeof memory_);
    EXPECT_FALSE(watch_.nothing_was_pinned(watch_.ask()));
    EXPECT_FALSE(watch_.nothing_was_pinned(early));
}

}  // namespace
}  // namespace refault::failure
