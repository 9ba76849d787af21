// Tickets: what a client shows a later daemon to have an open file again. A ticket names an inode
// and how it was opened, for one user, and is signed with a key that only daemons of this run
// directory know. So nobody gets by it to what he has not had open, whatever inode he names.
// Immutable; any thread.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>

#include "base/cred.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/uuid.h"

namespace refault::session {

using TicketKey = std::array<std::uint8_t, 32>;

// Of the kernel's random numbers.
base::Result<TicketKey> make_ticket_key();

class Tickets {
  public:
    Tickets(const TicketKey& key, const base::Uuid& pool) : key_(key), pool_(pool) {}

    struct Opened {
        base::InodeNo inode;
        base::Access access = base::Access::Read;
    };
    std::string issue(uid_t user, const Opened& opened) const;
    // Denied when it is not one of ours, not for this user or not for this pool.
    base::Result<Opened> check(uid_t user, const std::string& ticket) const;

  private:
    std::string sign(uid_t user, const std::string& text) const;

    const TicketKey key_;
    const base::Uuid pool_;
};

}  // namespace refault::session
