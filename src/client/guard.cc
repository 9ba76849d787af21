// The chain of guards of each thread.
#include "client/guard.h"

namespace refault::client {

namespace {
// No lazy allocation in a signal handler.
__attribute__((tls_model("initial-exec"))) thread_local Guard* t_innermost = nullptr;
}  // namespace

void Guard::enter() noexcept {
    outer_ = t_innermost;
    is_entered_ = true;
    t_innermost = this;
}

void Guard::leave() noexcept {
    if (!is_entered_) return;
    is_entered_ = false;
    t_innermost = outer_;
}

Guard* Guard::innermost() noexcept {
    return t_innermost;
}

}  // namespace refault::client
