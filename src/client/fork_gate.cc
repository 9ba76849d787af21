// The gate is a mutex that fork takes and gives back on both sides.
#include "client/fork_gate.h"

#include <pthread.h>

#include <chrono>
#include <mutex>

namespace refault::client {

namespace {

std::timed_mutex g_gate;
// Guarded by g_gate.
std::list<std::span<base::UniqueFd>> g_not_for_children;

// Only this thread is left in the child, and the parent's held the gate while it forked.
void leave_gate_in_child() {
    for (const auto descriptors : g_not_for_children)
        for (auto& descriptor : descriptors) descriptor.reset();
    g_gate.unlock();
}

// Another library's fork handler that runs inside of ours may wait on fenced memory, which only the
// pager can resolve. After this time the pager goes on: such a process cannot come to its fork
// before it is woken, and by then the new place is marked.
constexpr std::chrono::seconds kPatience{1};

}  // namespace

base::Status install_fork_gate() {
    static const int result =
        ::pthread_atfork([] { g_gate.lock(); }, [] { g_gate.unlock(); }, leave_gate_in_child);
    if (result != 0) return base::sys_error("pthread_atfork", result);
    return {};
}

NotForChildren::NotForChildren(std::span<base::UniqueFd> descriptors) {
    std::lock_guard lock(g_gate);
    entry_ = g_not_for_children.insert(g_not_for_children.end(), descriptors);
}

NotForChildren::~NotForChildren() {
    std::lock_guard lock(g_gate);
    g_not_for_children.erase(entry_);
}

ForkGate::ForkGate() : has_entered_(g_gate.try_lock_for(kPatience)) {}

ForkGate::~ForkGate() {
    if (has_entered_) g_gate.unlock();
}

}  // namespace refault::client
