// Lets the requests of all sessions be held: a daemon that is about to be replaced answers those
// that it has begun, and leaves those that come for the next one to be asked again. Thread-safe;
// mutex_ is a leaf.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/mutex.h"

namespace refault::session {

class RequestGate {
  public:
    // One request, from before it is read until it is answered.
    class Passage {
      public:
        // Waits while requests are held.
        explicit Passage(RequestGate& gate) : gate_(gate) { gate_.enter(); }
        ~Passage() { gate_.leave(); }
        Passage(const Passage&) = delete;
        Passage& operator=(const Passage&) = delete;

      private:
        RequestGate& gate_;
    };

    // Until open(). False when some are under way still at the deadline.
    bool hold(std::chrono::steady_clock::time_point deadline) {
        base::MutexLock lock(mutex_);
        is_held_ = true;
        while (passing_ > 0)
            if (!changed_.wait_until(mutex_, deadline)) return passing_ == 0;
        return true;
    }
    void open() {
        base::MutexLock lock(mutex_);
        is_held_ = false;
        changed_.notify_all();
    }

  private:
    void enter() {
        base::MutexLock lock(mutex_);
        while (is_held_) changed_.wait(mutex_);
        ++passing_;
    }
    void leave() {
        base::MutexLock lock(mutex_);
        if (--passing_ == 0) changed_.notify_all();
    }

    base::Mutex mutex_;
    base::CondVar changed_;
    bool is_held_ GUARDED_BY(mutex_) = false;
    std::uint64_t passing_ GUARDED_BY(mutex_) = 0;
};

}  // namespace refault::session
