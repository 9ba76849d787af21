// For tests: memory that the kernel really holds for transfers, as buffers registered with
// io_uring.
#pragma once

#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstddef>

#include "base/unique_fd.h"

namespace refault::failure::testing {

// Holds [address, address + length) while it lives, where io_uring is allowed.
class PinnedPages {
  public:
    PinnedPages(void* address, std::size_t length) {
        io_uring_params parameters{};
        ring_ = base::UniqueFd(static_cast<int>(::syscall(SYS_io_uring_setup, 1, &parameters)));
        iovec buffer{address, length};
        is_pinned_ = ring_ && ::syscall(SYS_io_uring_register, ring_.get(), IORING_REGISTER_BUFFERS,
                                        &buffer, 1) == 0;
    }
    // Returns when the kernel has let go.
    ~PinnedPages() {
        if (is_pinned_)
            ::syscall(SYS_io_uring_register, ring_.get(), IORING_UNREGISTER_BUFFERS, nullptr, 0);
    }
    PinnedPages(const PinnedPages&) = delete;
    PinnedPages& operator=(const PinnedPages&) = delete;
    bool is_pinned() const { return is_pinned_; }

  private:
    base::UniqueFd ring_;
    bool is_pinned_;
};

}  // namespace refault::failure::testing
