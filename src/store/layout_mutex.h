// The lock of one inode's layout: exclusive for what changes extents or bytes, shared for what only
// reads them. Who waits for it exclusively comes before new readers, so a move is not kept out by a
// busy file. A wait can have a limit: a request of a mounted filesystem may not hang. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/mutex.h"

namespace refault::store {

class LayoutMutex {
  public:
    using Deadline = std::chrono::steady_clock::time_point;
    static constexpr Deadline kNever = Deadline::max();

    // False when the deadline has passed; nothing is held then.
    bool lock(Deadline deadline = kNever) {
        base::MutexLock lock(mutex_);
        ++waiting_;
        while (is_locked_ || readers_ > 0)
            if (!wait_locked(deadline)) break;
        --waiting_;
        const bool is_free = !is_locked_ && readers_ == 0;
        if (is_free)
            is_locked_ = true;
        else
            changed_.notify_all();  // readers were kept out for this one
        return is_free;
    }
    void unlock() {
        base::MutexLock lock(mutex_);
        is_locked_ = false;
        changed_.notify_all();
    }
    bool lock_shared(Deadline deadline = kNever) {
        base::MutexLock lock(mutex_);
        while (is_locked_ || waiting_ > 0)
            if (!wait_locked(deadline)) return false;
        ++readers_;
        return true;
    }
    void unlock_shared() {
        base::MutexLock lock(mutex_);
        if (--readers_ == 0) changed_.notify_all();
    }

  private:
    bool wait_locked(Deadline deadline) REQUIRES(mutex_) {
        if (deadline != kNever) return changed_.wait_until(mutex_, deadline);
        changed_.wait(mutex_);
        return true;
    }

    base::Mutex mutex_;  // a leaf, held for a few instructions
    base::CondVar changed_;
    bool is_locked_ GUARDED_BY(mutex_) = false;
    std::uint32_t readers_ GUARDED_BY(mutex_) = 0;
    std::uint32_t waiting_ GUARDED_BY(mutex_) = 0;
};

}  // namespace refault::store
