// Holds back the program's signal handlers on the calling thread, for as long as it lives.
//
// A handler may touch pool memory, and wait there for the pager. It must not do so on top of a
// thread that holds a lock which the pager takes. A thread started meanwhile inherits the block.
#pragma once

#include <signal.h>

namespace refault::client {

class SignalBlock {
  public:
    SignalBlock() {
        sigset_t all;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalBlock() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalBlock(const SignalBlock&) = delete;
    SignalBlock& operator=(const SignalBlock&) = delete;

  private:
    sigset_t before_;
};

}  // namespace refault::client
