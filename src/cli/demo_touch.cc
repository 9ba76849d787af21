// The handler and the jump out of it.
#include "cli/demo_touch.h"

#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include <cstring>

namespace refault::cli {

namespace {

constexpr int kPageLog2 = 12;
constexpr int kUnexplainedExit = 3;

// The handler can reach nothing else. The state is set once, before the handlers are.
DemoClientState* g_state = nullptr;
sigjmp_buf g_jump;
const void* volatile g_page = nullptr;  // being touched, else null

bool is_promised(int number, const siginfo_t& info) {
    const auto page = reinterpret_cast<std::uintptr_t>(g_page);
    const auto address = reinterpret_cast<std::uintptr_t>(info.si_addr);
    return number == SIGBUS && page != 0 && info.si_code == BUS_MCEERR_AR &&
           info.si_addr_lsb == kPageLog2 && address >= page && address - page < kRecordBytes;
}

void on_memory_signal(int number, siginfo_t* info, void*) {
    if (!is_promised(number, *info)) {
        g_state->signals.fetch_add(1);
        ::_exit(kUnexplainedExit);
    }
    g_page = nullptr;
    g_state->loss_signals.fetch_add(1);
    siglongjmp(g_jump, 1);
}

}  // namespace

void catch_memory_signals(DemoClientState& state) {
    g_state = &state;
    struct sigaction action {};
    action.sa_sigaction = on_memory_signal;
    // Left by a jump that restores no mask.
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    for (const int number : {SIGSEGV, SIGBUS}) ::sigaction(number, &action, nullptr);
}

bool copy_record(void* to, const void* from, const void* page) {
    if (sigsetjmp(g_jump, 0) != 0) return false;
    g_page = page;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    std::memcpy(to, from, kRecordBytes);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    g_page = nullptr;
    return true;
}

}  // namespace refault::cli
