// The gate is a mutex that fork takes and gives back on both sides.
#include "client/fork_gate.h"

#include <pthread.h>

#include <chrono>
#include <mutex>

#include "base/lock_order.h"

namespace refault::client {

namespace {

std::timed_mutex g_gate;
constexpr base::OrderedLock kOrder{base::LockRank::ClientForkGate, __FILE__, __LINE__};
// Guarded by g_gate.
std::list<std::span<base::UniqueFd>> g_not_for_children;

void enter_gate() {
    base::check_lock_order(kOrder);
    g_gate.lock();
    base::note_held(kOrder);
}

void leave_gate() {
    base::note_released(kOrder);
    g_gate.unlock();
}

struct InsideGate {
    InsideGate() { enter_gate(); }
    ~InsideGate() { leave_gate(); }
};

// Only this thread is left in the child, and the parent's held the gate while it forked.
void leave_gate_in_child() {
    for (const auto descriptors : g_not_for_children)
        for (auto& descriptor : descriptors) descriptor.reset();
    leave_gate();
}

// Another library's fork handler that runs inside of ours may wait on fenced memory, which only the
// pager can resolve. After this time the pager goes on: such a process cannot come to its fork
// before it is woken, and by then the new place is marked.
constexpr std::chrono::seconds kPatience{1};

}  // namespace

base::Status install_fork_gate() {
    static const int result = ::pthread_atfork(enter_gate, leave_gate, leave_gate_in_child);
    if (result != 0) return base::sys_error("pthread_atfork", result);
    return {};
}

NotForChildren::NotForChildren(std::span<base::UniqueFd> descriptors) {
    const InsideGate inside;
    entry_ = g_not_for_children.insert(g_not_for_children.end(), descriptors);
}

NotForChildren::~NotForChildren() {
    const InsideGate inside;
    g_not_for_children.erase(entry_);
}

ForkGate::ForkGate() {
    base::check_lock_order(kOrder);
    has_entered_ = g_gate.try_lock_for(kPatience);
    if (has_entered_) base::note_held(kOrder);
}

ForkGate::~ForkGate() {
    if (has_entered_) leave_gate();
}

}  // namespace refault::client
