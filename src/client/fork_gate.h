// Keeps fork() out of the moment in which a new place is mapped but not yet marked MADV_DONTFORK (a
// child that inherited it could pass every fence), and closes in the child the descriptors that a
// pager holds at that time (a child that never calls exec would hold the device). This is the
// library's only state outside of a session, because fork is the process's.
//
// The pager enters the gate for a system call or two; a fork handler (pthread_atfork) holds it
// while the process forks.
#pragma once

#include <list>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"

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

// Descriptors that are closed in every child while this lives. Their owner changes them inside the
// gate alone. Made and destroyed where waiting for a fork does no harm.
class NotForChildren {
  public:
    explicit NotForChildren(std::span<base::UniqueFd> descriptors);
    ~NotForChildren();
    NotForChildren(const NotForChildren&) = delete;
    NotForChildren& operator=(const NotForChildren&) = delete;

  private:
    std::list<std::span<base::UniqueFd>>::iterator entry_;
};

}  // namespace refault::client
