// What the kernel offers and libfuse 3.14 does not hand on, put into its requests and replies where
// they pass:
//
//   FUSE_INIT       the reply asks for FUSE_HANDLE_KILLPRIV_V2 where the kernel has it. Without it
//                   the kernel asks for security.capability before each single write
//   FUSE_WRITE,     that take set-user-id and set-group-id bits off: shown as kKillsPrivileges
//   among FUSE_OPEN       the open flags FUSE_TMPFILE    becomes a FUSE_CREATE of kNoName, which is
//   no name that a program can use
//
// Requests come from the kernel as a whole, in one read each (linux/fuse.h). Thread-safe.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include <atomic>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace refault::mount {

inline constexpr const char* kNoName = "/";
// A bit that no flag of open(2) has.
inline constexpr int kKillsPrivileges = 1 << 30;

class KernelChannel {
  public:
    // Of a session that is connected. The channel outlives it.
    base::Status attach(fuse_session* session);

    // One request as it was read, changed in place.
    void translate_request(std::span<std::uint8_t> request);
    // The reply to FUSE_INIT, before it is written.
    void translate_reply(std::span<const iovec> parts);

  private:
    std::atomic<std::uint64_t> init_request_{0};
};

}  // namespace refault::mount
