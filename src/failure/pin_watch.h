// Pages held by the kernel itself. Write protection does not stop a transfer that already holds a
// page (direct I/O, registered io_uring buffers, RDMA: pin_user_pages). /proc/vmstat counts pins
// taken and released (nr_foll_pin_*); the counts are per processor and are summed up on a write to
// /proc/sys/vm/stat_refresh, which takes root and waits for every processor: a thread of its own
// does that while the caller copies.
//
//   counts   [same as before the barrier)   nothing pinned at either end, nothing in between
//      |---------|barrier|---- copy ----|
//   last look            asked    looked
//
// Thread-safe; its mutex is a leaf and is not held while looking.
#pragma once

#include <cstdint>
#include <optional>

#include "base/mutex.h"
#include "base/thread.h"
#include "base/unique_fd.h"

namespace refault::failure {

class PinWatch {
  public:
    PinWatch();
    ~PinWatch();

    // Pins taken and released since the kernel started.
    struct Counts {
        std::uint64_t taken = 0;
        std::uint64_t released = 0;
        friend bool operator==(const Counts&, const Counts&) = default;
    };
    // A look that begins after ask() returned it.
    struct Asked {
        std::uint64_t number = 0;
        std::optional<Counts> before;  // of the last look that had ended by then
    };

    // Does not wait.
    Asked ask();
    // Waits for the look. True only when no page in the system was pinned at any moment from the
    // look before ask() to this one. False when there may have been one, or when the counts cannot
    // be had.
    bool nothing_was_pinned(const Asked& asked);
    // How many pages of the system are pinned now; nothing when the counts cannot be had. Waits.
    std::optional<std::uint64_t> pinned_pages();

  private:
    // The counts of the look, or of a later one.
    std::optional<Counts> wait_for(const Asked& asked);
    void run();
    std::optional<Counts> look() const;

    const base::UniqueFd refresh_;
    const base::UniqueFd vmstat_;
    base::Mutex mutex_;
    base::CondVar changed_;
    bool must_stop_ GUARDED_BY(mutex_) = false;
    std::uint64_t asked_ GUARDED_BY(mutex_) = 0;
    std::uint64_t looked_ GUARDED_BY(mutex_) = 0;
    std::optional<Counts> last_ GUARDED_BY(mutex_);
    base::NamedThread thread_;  // only where the counts can be had
};

}  // namespace refault::failure
