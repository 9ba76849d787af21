// What one client, or all of them together, may take of the daemon. Value type; shown by the
// control API as it is in force.
#pragma once

#include <cstdint>

namespace refault::session {

struct Limits {
    std::uint32_t sessions = 1024;
    std::uint32_t sessions_per_user = 256;  // so that no user takes them all; root may
    std::uint32_t files_per_session = 4096;
    std::uint32_t mappings_per_session = 4096;
    // Parts of mappings that are held back: a client names them one by one, so their number is its
    // own choice.
    std::uint32_t held_parts_per_session = 16384;
    std::uint32_t faults_per_session = 4096;  // claims of SIGBUS without a verdict yet
    // What a client that asks for more has left unread. Descriptors on their way count for the
    // daemon's user, and the kernel refuses all of his when they are too many.
    std::uint32_t unread_bytes = 65536;
    std::uint32_t hello_timeout_ms = 5000;
    std::uint32_t reply_timeout_ms = 5000;  // for a client to read its answer
};

// Descriptors of one session: its socket, its userfaultfd, its pager channel, its process.
inline constexpr std::uint64_t kDescriptorsPerSession = 4;
// Those that sessions never take: devices, places on their way, the control socket.
inline constexpr std::uint64_t kDescriptorsKept = 384;

// The limits with no more sessions than this many descriptors are enough for.
constexpr Limits within_descriptors(Limits limits, std::uint64_t descriptors) {
    const auto room = descriptors > kDescriptorsKept ? descriptors - kDescriptorsKept : 0;
    const auto most = room / kDescriptorsPerSession > 1 ? room / kDescriptorsPerSession : 1;
    if (limits.sessions > most) limits.sessions = static_cast<std::uint32_t>(most);
    if (limits.sessions_per_user > limits.sessions) limits.sessions_per_user = limits.sessions;
    return limits;
}

}  // namespace refault::session
