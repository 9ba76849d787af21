// What each thread holds: a small stack of its own, so that looking at it needs no lock and no
// memory.
#include "base/lock_order.h"

#include <array>

#ifdef REFAULT_DEBUG_LOCKS
#include <cstdio>
#include <cstdlib>

#include "base/check.h"
#endif

namespace refault::base {

const char* to_string(LockRank rank) noexcept {
    static constexpr std::array kNames = {
#define REFAULT_LOCK_NAME(name, text) text,
        REFAULT_LOCK_ORDER(REFAULT_LOCK_NAME)
#undef REFAULT_LOCK_NAME
    };
    return kNames[static_cast<std::size_t>(rank)];
}

#ifdef REFAULT_DEBUG_LOCKS

namespace {

// There are fewer ranks.
constexpr std::size_t kMostHeld = 32;

struct Held {
    std::array<const OrderedLock*, kMostHeld> locks;
    std::size_t count;
};

// Zeroed memory without a constructor: it is there in every thread from its first instruction to
// its last.
thread_local constinit Held t_held{};

}  // namespace

void check_lock_order(const OrderedLock& lock) noexcept {
    for (std::size_t at = 0; at < t_held.count; ++at) {
        const OrderedLock& held = *t_held.locks[at];
        if (lock.rank > held.rank) continue;
        std::fprintf(stderr,
                     "refault: internal error: lock order: %s (%s:%d) is taken while %s (%s:%d) is "
                     "held; the order is in "
                     "src/base/lock_order.h\n",
                     to_string(lock.rank), lock.file, lock.line, to_string(held.rank), held.file,
                     held.line);
        std::abort();
    }
}

void note_held(const OrderedLock& lock) noexcept {
    CHECK(t_held.count < kMostHeld);
    t_held.locks[t_held.count++] = &lock;
}

void note_released(const OrderedLock& lock) noexcept {
    for (std::size_t at = t_held.count; at-- > 0;) {
        if (t_held.locks[at] != &lock) continue;
        for (; at + 1 < t_held.count; ++at) t_held.locks[at] = t_held.locks[at + 1];
        --t_held.count;
        return;
    }
    CHECK(!"a lock is given back by the thread that took it");
}

#endif

}  // namespace refault::base
