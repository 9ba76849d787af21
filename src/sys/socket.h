// Unix sockets that keep message boundaries and carry descriptors (SOCK_SEQPACKET, SCM_RIGHTS).
// Stateless functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/cred.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace refault::sys {

using base::Result;
using base::Status;
using base::UniqueFd;

// The kernel's limit of descriptors in one message (SCM_MAX_FD).
inline constexpr std::size_t kDescriptorsMax = 253;

// Listens at `path`, replacing a socket that nobody listens on any more (Busy when somebody does).
Result<UniqueFd> listen_seqpacket(const std::string& path, mode_t mode);
Result<UniqueFd> connect_seqpacket(const std::string& path);
// A connection, non-inheritable, whose sends give up (Busy) after that time; Busy when none is
// waiting (non-blocking listener).
Result<UniqueFd> accept_connection(int listener, int patience_ms = 5000);
Result<std::pair<UniqueFd, UniqueFd>> seqpacket_pair();

// Sends one message whole. Busy when the peer's queue is full and the call may not wait; Gone when
// it hung up.
Status send_message(int socket, std::span<const std::uint8_t> bytes,
                    std::span<const int> descriptors = {}, bool may_wait = true);

struct Received {
    std::vector<std::uint8_t> bytes;
    std::vector<UniqueFd> descriptors;
};
// Waits for one message of at most bytes_max. Gone at end of stream; Corrupt when it was longer
// than bytes_max or its descriptors did not all arrive. Busy when there is none and the call may
// not wait: O_NONBLOCK alone is no promise, whoever else has the descriptor can clear it.
Result<Received> receive_message(int socket, std::size_t bytes_max, bool may_wait = true);

struct ReceivedSizes {
    std::size_t bytes = 0;
    std::size_t descriptors = 0;
};
// The same into memory that the caller has, allocating nothing unless it fails. What `descriptors`
// held is closed.
Result<ReceivedSizes> receive_into(int socket, std::span<std::uint8_t> bytes,
                                   std::span<UniqueFd, kDescriptorsMax> descriptors,
                                   bool may_wait = true);

// Whether the next message carries any, without taking it off the queue or them in. Busy when there
// is none; never waits.
Result<bool> carries_descriptors(int socket);
// Descriptors that come from here on are refused to their sender, where the kernel can
// (Linux 6.16).
void refuse_descriptors(int socket) noexcept;
// What was sent and not read, with the kernel's own share.
std::size_t unread_bytes(int socket) noexcept;

// A descriptor kept back for the moment when there are no others: with it a connection can still be
// accepted, and closed. Without, it would stay in the queue, and the listener readable for ever.
class SpareDescriptor {
  public:
    SpareDescriptor();
    // True when one connection was closed that way.
    bool shed(int listener);

  private:
    UniqueFd spare_;
};

// True for a connected local socket that keeps message boundaries, and nothing else.
bool is_seqpacket(int socket) noexcept;

// The peer's identity when it connected, as the kernel keeps it (SO_PEERCRED, SO_PEERGROUPS).
Result<base::Cred> peer_cred(int socket);

// True when the peer has hung up, without reading anything.
bool has_hung_up(int socket) noexcept;

}  // namespace refault::sys
