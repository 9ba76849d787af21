// A mutex, a scoped lock and a condition variable that clang's thread-safety analysis understands.
// Each mutex has its rank in the order of base/lock_order.h; builds with REFAULT_DEBUG_LOCKS hold
// every thread to it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "base/lock_order.h"

#if defined(__clang__)
#define REFAULT_ANNOTATE(x) __attribute__((x))
#else
#define REFAULT_ANNOTATE(x)
#endif
#define CAPABILITY(x) REFAULT_ANNOTATE(capability(x))
#define SCOPED_CAPABILITY REFAULT_ANNOTATE(scoped_lockable)
#define GUARDED_BY(x) REFAULT_ANNOTATE(guarded_by(x))
#define REQUIRES(...) REFAULT_ANNOTATE(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) REFAULT_ANNOTATE(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) REFAULT_ANNOTATE(acquire_capability(__VA_ARGS__))
#define ASSERT_HELD(x) REFAULT_ANNOTATE(assert_capability(x))
#define RELEASE(...) REFAULT_ANNOTATE(release_capability(__VA_ARGS__))

namespace refault::base {

class CAPABILITY("mutex") Mutex {
  public:
#ifdef REFAULT_DEBUG_LOCKS
    explicit Mutex(LockRank rank = LockRank::Leaf, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE())
        : order_{rank, file, line} {}
    void lock() ACQUIRE() {
        check_lock_order(order_);
        mutex_.lock();
        note_held(order_);
    }
    void unlock() RELEASE() {
        note_released(order_);
        mutex_.unlock();
    }
#else
    explicit Mutex(LockRank = LockRank::Leaf) {}
    void lock() ACQUIRE() {
        mutex_.lock();
    }
    void unlock() RELEASE() {
        mutex_.unlock();
    }
#endif
    Mutex(const Mutex&) = delete;
    Mutex& operator=(const Mutex&) = delete;
    // Says to the analysis what the caller knows.
    void assert_held() ASSERT_HELD(this) {}

  private:
    friend class CondVar;
    std::mutex mutex_;
#ifdef REFAULT_DEBUG_LOCKS
    const OrderedLock order_;
#endif
};

class SCOPED_CAPABILITY MutexLock {
  public:
    explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
    ~MutexLock() RELEASE() { mutex_.unlock(); }
    MutexLock(const MutexLock&) = delete;
    MutexLock& operator=(const MutexLock&) = delete;

  private:
    Mutex& mutex_;
};

// Waits are always in a loop over a condition: wake-ups may be spurious. Who waits counts as
// holding the mutex: it takes no other until it has it back.
class CondVar {
  public:
    void wait(Mutex& mutex) REQUIRES(mutex) {
        std::unique_lock lock(mutex.mutex_, std::adopt_lock);
        condition_.wait(lock);
        (void)lock.release();
    }
    // False when the deadline has passed.
    bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point deadline) REQUIRES(mutex) {
        std::unique_lock lock(mutex.mutex_, std::adopt_lock);
        const auto status = condition_.wait_until(lock, deadline);
        (void)lock.release();
        return status == std::cv_status::no_timeout;
    }
    void notify_one() { condition_.notify_one(); }
    void notify_all() { condition_.notify_all(); }

  private:
    std::condition_variable condition_;
};

}  // namespace refault::base
