// The order of locks: what follows it passes, a step back ends the process with both names.
#include "base/lock_order.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "base/mutex.h"

namespace refault::base {
namespace {

TEST(LockOrder, NamesWhatItOrders) {
    EXPECT_STREQ(to_string(LockRank::Store), "Store::mutex_");
    EXPECT_STREQ(to_string(LockRank::Leaf), "a leaf");
}

#ifdef REFAULT_DEBUG_LOCKS

class LockOrderDeathTest : public testing::Test {
  protected:
    LockOrderDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

    Mutex pool_{LockRank::Pool};
    Mutex registry_{LockRank::Registry};
    Mutex store_{LockRank::Store};
    Mutex leaf_;
    Mutex other_leaf_;
};

TEST_F(LockOrderDeathTest, DownwardsIsFineAlsoWithRanksLeftOutAndGivenBackInAnyOrder) {
    pool_.lock();
    store_.lock();
    leaf_.lock();
    pool_.unlock();
    leaf_.unlock();
    store_.unlock();
    pool_.lock();
    registry_.lock();
    registry_.unlock();
    store_.lock();
    store_.unlock();
    pool_.unlock();
}

TEST_F(LockOrderDeathTest, AStepBackDiesWithBothNames) {
    EXPECT_DEATH(
        {
            MutexLock store(store_);
            MutexLock registry(registry_);
        },
        "lock order: Registry::mutex_ .*lock_order_test.cc.* is taken while Store::mutex_ .* is "
        "held");
}

TEST_F(LockOrderDeathTest, AStepBackDiesAlsoWithALockBetweenGivenBack) {
    EXPECT_DEATH(
        {
            MutexLock registry(registry_);
            { MutexLock store(store_); }
            MutexLock pool(pool_);
        },
        "Pool::mutex_ .* is taken while Registry::mutex_ ");
}

TEST_F(LockOrderDeathTest, TwoOfOneRankAndTheSameTwiceDie) {
    EXPECT_DEATH(
        {
            MutexLock one(leaf_);
            MutexLock two(other_leaf_);
        },
        "a leaf .* is taken while a leaf .* is held");
    EXPECT_DEATH(
        {
            MutexLock one(store_);
            MutexLock two(store_);
        },
        "Store::mutex_ .* is taken while Store::mutex_ ");
}

TEST_F(LockOrderDeathTest, WhoGivesBackWhatAnotherThreadTookDies) {
    EXPECT_DEATH(
        {
            std::thread([this] { store_.lock(); }).join();
            store_.unlock();
        },
        "given back by the thread that took it");
}

TEST_F(LockOrderDeathTest, EachThreadHasItsOwn) {
    MutexLock store(store_);
    std::thread([this] { MutexLock pool(pool_); }).join();
}

// A wait gives the mutex up and has it back afterwards; what the thread holds stays as it was.
TEST_F(LockOrderDeathTest, AWaitChangesNothing) {
    CondVar changed;
    bool has_changed = false;
    std::thread other([&] {
        MutexLock lock(store_);
        has_changed = true;
        changed.notify_all();
    });
    {
        MutexLock lock(store_);
        while (!has_changed) changed.wait(store_);
        EXPECT_FALSE(changed.wait_until(store_, std::chrono::steady_clock::now()));
        MutexLock leaf(leaf_);
    }
    other.join();
    EXPECT_DEATH(
        {
            MutexLock lock(store_);
            (void)changed.wait_until(store_, std::chrono::steady_clock::now());
            MutexLock pool(pool_);
        },
        "Pool::mutex_ .* is taken while Store::mutex_ ");
}

#endif

}  // namespace
}  // namespace refault::base
