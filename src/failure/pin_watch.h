// Pages held by the kernel itself. Write protection does not stop a transfer that already holds a
// page (direct I/O, registered io_uring buffers, RDMA: pin_user_pages). /proc/vmstat counts pins
// taken and released (nr_foll_pin_*); the counts are per processor and are summed up on a write to
// /proc/sys/vm/stat_refresh, which takes root. Thread-safe, no lock.
#pragma once

#include "base/unique_fd.h"

namespace refault::failure {

class PinWatch {
  public:
    PinWatch();
    // True only when the kernel says that no page in the system is pinned right now. False when
    // there may be one, or when the counts cannot be had.
    bool nothing_is_pinned() const;

  private:
    base::UniqueFd refresh_;
    base::UniqueFd vmstat_;
};

}  // namespace refault::failure
