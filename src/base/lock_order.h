// The written order of the locks, and what holds every thread to it. A thread takes locks of
// falling rank only: from the top of this list to its end; it may skip, never go back, and never
// holds two of one rank. Leaves are all of one rank, so whoever holds one takes nothing else.
// docs/architecture.md says what each is held over. With REFAULT_DEBUG_LOCKS (debug, asan, tsan)
// each thread notes what it holds, and a step back ends the process with both names before it can
// wait; without, none of this is compiled in. Any thread.
#pragma once

#include <cstdint>

namespace refault::base {

#define REFAULT_LOCK_ORDER(X)                                                                 \
    X(ControlChange, "ControlApi::change_mutex_")                                             \
    X(Control, "ControlApi::mutex_")                                                          \
    X(FailureWork, "FailureService::work_mutex_")                                             \
    X(Pool, "Pool::mutex_")                                                                   \
    X(Removals, "RemovalService::mutex_")                                                     \
    X(MountChange, "MountService::change_mutex_")                                             \
    X(AbsentClients, "AbsentClients::mutex_")                                                 \
    X(Layout, "layout lock of an inode")                                                      \
    X(Mover, "Mover::mutex_")                                                                 \
    X(OpenInodes, "OpenInodes::mutex_")                                                       \
    X(Registry, "Registry::mutex_")                                                           \
    X(Store, "Store::mutex_")                                                                 \
    X(SlotMachine, "SlotMachine::mutex_")                                                     \
    /* the library's, which no thread of the daemon takes */                                  \
    X(ClientHandles, "rf_session::mutex")                                                     \
    X(ClientExchange, "Session::exchange_mutex_")                                             \
    /* held over touches of pool memory, whose SIGBUS handler looks into the mapping table */ \
    X(ClientStripe, "a stripe of Mirrors")                                                    \
    X(ClientMappings, "MappingTable::mutex_")                                                 \
    X(ClientForkGate, "the gate of fork_gate.h")                                              \
    X(Leaf, "a leaf")

enum class LockRank : std::uint8_t {
#define REFAULT_LOCK_RANK(name, text) name,
    REFAULT_LOCK_ORDER(REFAULT_LOCK_RANK)
#undef REFAULT_LOCK_RANK
};

const char* to_string(LockRank rank) noexcept;

// One lock, as the order sees it.
struct OrderedLock {
    LockRank rank;
    const char* file;  // where it is made, which tells leaves apart
    int line;
};

#ifdef REFAULT_DEBUG_LOCKS
// Before the lock is waited for. Ends the process on a step back.
void check_lock_order(const OrderedLock& lock) noexcept;
// When it is held, and before it is given back: by the same thread, in any order.
void note_held(const OrderedLock& lock) noexcept;
void note_released(const OrderedLock& lock) noexcept;
#else
inline void check_lock_order(const OrderedLock&) noexcept {}
inline void note_held(const OrderedLock&) noexcept {}
inline void note_released(const OrderedLock&) noexcept {}
#endif

}  // namespace refault::base
