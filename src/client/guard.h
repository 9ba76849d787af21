// What lets a stretch of code fail instead of the process when memory of the pool is lost: the
// SIGBUS handler jumps back to where the guard was set.
//
//   Guard guard;
//   if (sigsetjmp(guard.jump, 0) != 0) { guard.leave(); ... guard.hit says where and why ... }
//   guard.enter();
//   ... touches memory, holds nothing that a destructor would have to give back ...
//   guard.leave();
//
// Guards nest. One thread's own; the handler runs on that same thread.
#pragma once

#include <setjmp.h>

#include <cstdint>

#include "wire/message.h"

namespace refault::client {

struct Guard {
    struct Hit {
        std::uint64_t address = 0;
        std::uint64_t length = 0;
        wire::Answer answer = wire::Answer::Lost;
    };

    void enter() noexcept;
    void leave() noexcept;
    // The innermost of this thread, or nullptr. Async-signal-safe.
    static Guard* innermost() noexcept;

    sigjmp_buf jump;
    Hit hit;

  private:
    Guard* outer_ = nullptr;
    bool is_entered_ = false;
};

}  // namespace refault::client
