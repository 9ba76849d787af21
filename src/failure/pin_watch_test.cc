// Pins that the kernel really holds: buffers registered with io_uring.
#include "failure/pin_watch.h"

#include <gtest/gtest.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <chrono>

#include "base/range.h"

namespace refault::failure {
namespace {

// One page that the kernel holds while this lives.
class PinnedPage {
  public:
    PinnedPage() {
        io_uring_params parameters{};
        ring_ = base::UniqueFd(static_cast<int>(::syscall(SYS_io_uring_setup, 1, &parameters)));
        page_ = ::mmap(nullptr, base::kPageBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        iovec buffer{page_, base::kPageBytes};
        is_pinned_ = ring_ && ::syscall(SYS_io_uring_register, ring_.get(), IORING_REGISTER_BUFFERS,
                                        &buffer, 1) == 0;
    }
    ~PinnedPage() {
        if (is_pinned_)
            ::syscall(SYS_io_uring_register, ring_.get(), IORING_UNREGISTER_BUFFERS, nullptr, 0);
        ::munmap(page_, base::kPageBytes);
    }
    PinnedPage(const PinnedPage&) = delete;
    PinnedPage& operator=(const PinnedPage&) = delete;
    bool is_pinned() const { return is_pinned_; }

  private:
    base::UniqueFd ring_;
    void* page_;
    bool is_pinned_;
};

class PinWatchTest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "the counts take root";
        if (!PinnedPage().is_pinned()) GTEST_SKIP() << "io_uring is not allowed here";
        if (!becomes_quiet()) GTEST_SKIP() << "something else in the system keeps pages pinned";
    }
    // Other programs pin pages, too, but not all the time.
    bool becomes_quiet() {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (std::chrono::steady_clock::now() < deadline)
            if (watch_.nothing_was_pinned(watch_.ask())) return true;
        return false;
    }
    PinWatch watch_;
};

TEST_F(PinWatchTest, APinThatIsHeldIsSeen) {
    const PinnedPage page;
    EXPECT_FALSE(watch_.nothing_was_pinned(watch_.ask()));
    EXPECT_FALSE(watch_.nothing_was_pinned(watch_.ask())) << "the same at both ends is not enough";
    EXPECT_GT(watch_.pinned_pages(), 0u);
}

TEST_F(PinWatchTest, APinThatCameAndWentIsSeen) {
    { const PinnedPage page; }
    EXPECT_FALSE(watch_.nothing_was_pinned(watch_.ask()));
    EXPECT_TRUE(becomes_quiet());
}

TEST_F(PinWatchTest, ALaterLookOfAnotherAnswersToo) {
    const auto early = watch_.ask();
    const PinnedPage page;
    EXPECT_FALSE(watch_.nothing_was_pinned(watch_.ask()));
    EXPECT_FALSE(watch_.nothing_was_pinned(early));
}

}  // namespace
}  // namespace refault::failure
