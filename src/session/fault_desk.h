// Where a session hands in what went wrong for its client. Implemented by the failure layer, which
// lies above this folder. Thread-safe; no call waits for a client or for I/O.
#pragma once

#include <memory>

#include "session/session.h"
#include "wire/message.h"

namespace refault::session {

class FaultDesk {
  public:
    virtual ~FaultDesk() = default;
    // A thread of the client got SIGBUS and waits for the Verdict, which is told to the session
    // later, from another thread.
    virtual void fault(const std::shared_ptr<Session>& session, const wire::Fault& fault) = 0;
    // A writable mapping of the file is gone, cleanly or not.
    virtual void writer_gone(base::InodeNo inode) = 0;
};

}  // namespace refault::session
