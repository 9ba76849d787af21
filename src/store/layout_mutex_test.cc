// The lock of an inode's layout: shared, exclusive, with a limit.
#include "store/layout_mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace refault::store {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(LayoutMutex, ReadersShareItAndAWriterDoesNot) {
    LayoutMutex mutex;
    ASSERT_TRUE(mutex.lock_shared());
    ASSERT_TRUE(mutex.lock_shared());
    EXPECT_FALSE(mutex.lock(steady_clock::now() + milliseconds(5)));
    // A writer that has given up keeps nobody out.
    ASSERT_TRUE(mutex.lock_shared(steady_clock::now() + milliseconds(5)));
    for (int i = 0; i < 3; ++i) mutex.unlock_shared();
    ASSERT_TRUE(mutex.lock());
    EXPECT_FALSE(mutex.lock_shared(steady_clock::now() + milliseconds(5)));
    EXPECT_FALSE(mutex.lock(steady_clock::now() + milliseconds(5)));
    mutex.unlock();
    EXPECT_TRUE(mutex.lock_shared(steady_clock::now() + milliseconds(5)));
}

TEST(LayoutMutex, AWaitingWriterComesBeforeNewReaders) {
    LayoutMutex mutex;
    ASSERT_TRUE(mutex.lock_shared());
    std::atomic<bool> has_written{false};
    std::thread writer([&] {
        (void)mutex.lock();
        has_written = true;
        mutex.unlock();
    });
    // Until the writer waits, readers get in; from then on they do not.
    while (mutex.lock_shared(steady_clock::now())) mutex.unlock_shared();
    EXPECT_FALSE(has_written);
    mutex.unlock_shared();
    writer.join();
    EXPECT_TRUE(has_written);
    EXPECT_TRUE(mutex.lock_shared());
}

}  // namespace
}  // namespace refault::store
