// The write barrier: what stops the clients' stores into ranges whose bytes are about to move, and
// what makes their next touch wait once the old pages are gone. An interface, because not every
// kind of memory takes the same barrier. Implementations are stateless and thread-safe; calls do
// not wait for a client.
#pragma once

#include <span>

#include "base/result.h"
#include "session/registry.h"

namespace refault::session {

class WriteBarrier {
  public:
    virtual ~WriteBarrier() = default;
    // No store reaches the pages any more. What the caller does with them: Copy, elsewhere; or
    // Refill, where they are: after the punch a touch waits also where there is a page again.
    enum class Stop { Copy, Refill };
    // Reads go on; after the pages were punched every touch waits until the pager has mapped a new
    // place. Processes that are gone are passed over. Targets that could not be stopped are
    // returned: their process has taken its memory out of the barrier's reach.
    virtual std::vector<FenceTarget> close(std::span<const FenceTarget> targets,
                                           Stop stop = Stop::Copy) = 0;
    // Undoes close() where nothing has moved: stores go on.
    virtual void open(std::span<const FenceTarget> targets) = 0;
};

// For tmpfs: write-protection and missing-page events by userfaultfd, registered only for the time
// of the move, so that a mapping at rest costs what a plain mmap costs.
class UserfaultBarrier final : public WriteBarrier {
  public:
    std::vector<FenceTarget> close(std::span<const FenceTarget> targets,
                                   Stop stop = Stop::Copy) override;
    void open(std::span<const FenceTarget> targets) override;
};

}  // namespace refault::session
