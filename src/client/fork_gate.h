// Keeps fork() out of the moment in which a new place is mapped but not yet marked MADV_DONTFORK: a
// child that inherited it could pass every fence. This is the library's only state outside of a
// session, because fork is the process's.
//
// The pager enters the gate for two system calls; a fork handler (pthread_atfork) holds it while
// the process forks.
#pragma once

#include "base/result.h"

namespace refault::client {

// Once before the first pager starts; again does nothing. Any thread.
base::Status install_fork_gate();

class ForkGate {
  public:
    ForkGate();
    ~ForkGate();
    ForkGate(const ForkGate&) = delete;
    ForkGate& operator=(const ForkGate&) = delete;

  private:
    bool has_entered_;
};

}  // namespace refault::client
