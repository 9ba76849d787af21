// What the kernel offers and libfuse 3.14 does not hand on, put into its requests and replies where
// they pass:
//
//   FUSE_INIT       the reply asks for FUSE_HANDLE_KILLPRIV_V2 where the kernel has it. Without it
//                   the kernel asks for security.capability before each single write
//   FUSE_WRITE,     that take set-user-id and set-group-id bits off: shown as kKillsPrivileges
//   among FUSE_OPEN       the open flags FUSE_TMPFILE    becomes a FUSE_CREATE of kNoName, which is
//   no name that a program can use
//
// It also keeps what was said by FUSE_INIT, which the kernel says once in the life of a connection:
// a session that goes on with the connection of another is told the same, and its reply stays here.
//
// Requests come from the kernel as a whole, in one read each (linux/fuse.h). Thread-safe; FUSE_INIT
// comes alone, before all others.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "mount/handed_over.h"

namespace refault::mount {

inline constexpr const char* kNoName = "/";
// A bit that no flag of open(2) has.
inline constexpr int kKillsPrivileges = 1 << 30;

class KernelChannel {
  public:
    // Of a session that is connected. The channel outlives it.
    base::Status attach(fuse_session* session);
    // Of a session that is not: it goes on with the connection of an earlier one, and owns it.
    // NotSupported when it would have agreed with the kernel on something else.
    base::Status resume(fuse_session* session, base::UniqueFd connection,
                        const Agreement& agreement);
    const Agreement& agreement() const { return agreement_; }

    // One request as it was read, changed in place.
    void translate_request(std::span<std::uint8_t> request);
    // The reply to FUSE_INIT, before it is written. False when it is not to be.
    bool translate_reply(std::span<const iovec> parts);

  private:
    std::atomic<std::uint64_t> init_request_{0};  // until it is replied to
    std::vector<std::uint8_t> asked_;             // by it, likewise
    bool is_resuming_ = false;
    Agreement agreement_;
};

}  // namespace refault::mount
