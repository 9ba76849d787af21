// One scrub of the pool at a time, on a thread of its own ("scrub"), with progress and cancel.
// Thread-safe.
#pragma once

#include <optional>

#include "base/mutex.h"
#include "base/thread.h"
#include "failure/resync.h"

namespace refault::failure {

struct ScrubStatus {
    bool is_running = false;
    std::uint64_t bytes_done = 0;
    std::uint64_t bytes_total = 0;
    std::optional<ScrubReport> last;  // of the last one that has ended
};

class Scrub {
  public:
    explicit Scrub(Resync& resync) : resync_(resync) {}
    // Cancels and joins.
    ~Scrub();

    // Busy when one is running.
    Status start();
    // Invalid when none is running; it stops at the next piece.
    Status cancel();
    ScrubStatus status() const;

  private:
    Resync& resync_;
    mutable base::Mutex mutex_;
    ScrubStatus status_ GUARDED_BY(mutex_);
    bool must_stop_ GUARDED_BY(mutex_) = false;
    base::NamedThread thread_;
};

}  // namespace refault::failure
