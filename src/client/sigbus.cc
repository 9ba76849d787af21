// The handler and the table of sessions that it looks into.
#include "client/sigbus.h"

#include <sched.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>

#include "client/guard.h"

namespace refault::client {

using base::kPageBytes;

namespace {

struct Slot {
    std::atomic<const SigbusEntry*> entry{nullptr};
    std::atomic<std::uint32_t> readers{0};
};
// Sessions of one process beyond this many are not looked after: their SIGBUS reaches the program.
constexpr std::size_t kSlots = 256;
std::array<Slot, kSlots> g_slots;
struct sigaction g_previous;

// A notice is queued as a value: the address, with this mark and the size in the bits below a page.
constexpr std::uint64_t kNoticeMark = 0xa00;
constexpr std::uint64_t kSizeMask = 0x3f;

std::uint64_t address_of(const siginfo_t& info) {
    return reinterpret_cast<std::uintptr_t>(info.si_addr);
}

void set_address(siginfo_t& info, int code, std::uint64_t address, std::uint64_t length) {
    info.si_code = code;
    info.si_addr = reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
    info.si_addr_lsb = static_cast<short>(std::countr_zero(length));
}

bool is_notice(const siginfo_t& info) {
    return info.si_code == SI_QUEUE && info.si_pid == ::getpid() &&
           (reinterpret_cast<std::uintptr_t>(info.si_value.sival_ptr) & ~kSizeMask & 0xfff) ==
               kNoticeMark;
}

// The daemon's answer about an address of this session; nothing when it is not one, or the daemon
// is gone.
std::optional<wire::Verdict> ask(const SigbusEntry& entry, const siginfo_t& info) {
    const auto address = address_of(info);
    if (!entry.mappings().owns(address)) return std::nullopt;
    const bool is_poison = info.si_code == BUS_MCEERR_AR || info.si_code == BUS_MCEERR_AO;
    return entry.line().ask(
        {0, address, is_poison, static_cast<std::uint8_t>(is_poison ? info.si_addr_lsb : 0)});
}

std::optional<wire::Verdict> ask_any(const siginfo_t& info) {
    for (auto& slot : g_slots) {
        slot.readers.fetch_add(1);
        const SigbusEntry* const entry = slot.entry.load();
        auto verdict = entry != nullptr ? ask(*entry, info) : std::nullopt;
        slot.readers.fetch_sub(1);
        if (verdict) return verdict;
    }
    return std::nullopt;
}

void hand_on(int number, siginfo_t* info, void* context) {
    if ((g_previous.sa_flags & SA_SIGINFO) != 0) {
        g_previous.sa_sigaction(number, info, context);
    } else if (g_previous.sa_handler == SIG_DFL || g_previous.sa_handler == SIG_IGN) {
        // The access repeats without us and ends the process, as it would have; a signal that
        // somebody sent has no access to repeat.
        if (info->si_code == BUS_MCEERR_AO && g_previous.sa_handler == SIG_IGN) return;
        (void)::sigaction(number, &g_previous, nullptr);
        if (info->si_code <= 0 || info->si_code == BUS_MCEERR_AO) (void)::raise(number);
    } else {
        g_previous.sa_handler(number);
    }
}

void on_sigbus(int number, siginfo_t* info, void* context) {
    const int kept_errno = errno;
    siginfo_t changed = *info;
    const bool is_resolved = resolve_sigbus(changed);
    errno = kept_errno;
    if (!is_resolved) hand_on(number, &changed, context);
}

}  // namespace

bool resolve_sigbus(siginfo_t& info) noexcept {
    if (is_notice(info)) {
        const auto value = reinterpret_cast<std::uintptr_t>(info.si_value.sival_ptr);
        set_address(info, BUS_MCEERR_AO, value & ~(kPageBytes - 1), 1ull << (value & kSizeMask));
        return false;
    }
    if (info.si_code <= 0) return false;  // sent by somebody
    const auto verdict = ask_any(info);
    if (!verdict) return false;
    if (verdict->answer == wire::Answer::Retry) return true;
    if (Guard* const guard = Guard::innermost()) {
        guard->hit = {address_of(info), verdict->length, verdict->answer};
        siglongjmp(guard->jump, 1);
    }
    if (verdict->answer == wire::Answer::Lost || verdict->answer == wire::Answer::Stale)
        set_address(info, BUS_MCEERR_AR, address_of(info), kPageBytes);
    return false;
}

base::Status install_sigbus_handler() {
    static const int result = [] {
        struct sigaction action {};
        action.sa_sigaction = on_sigbus;
        // Not blocked while it runs: it may leave by a jump, and a chained handler may fault again.
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
        ::sigemptyset(&action.sa_mask);
        return ::sigaction(SIGBUS, &action, &g_previous) == 0 ? 0 : errno;
    }();
    if (result != 0) return base::sys_error("sigaction", result);
    return {};
}

void raise_notice(std::uint64_t address, std::uint64_t length) noexcept {
    const auto size = static_cast<std::uint64_t>(std::countr_zero(std::bit_floor(length)));
    sigval value;
    value.sival_ptr = reinterpret_cast<void*>(
        static_cast<std::uintptr_t>(base::align_down(address, kPageBytes) | kNoticeMark | size));
    (void)::sigqueue(::getpid(), SIGBUS, value);
}

SigbusEntry::SigbusEntry(MappingTable& mappings, FaultLine& line)
    : mappings_(mappings), line_(line), slot_(kSlots) {
    for (std::size_t i = 0; i < kSlots && slot_ == kSlots; ++i) {
        const SigbusEntry* expected = nullptr;
        if (g_slots[i].entry.compare_exchange_strong(expected, this)) slot_ = i;
    }
}

void SigbusEntry::forget_in_child() noexcept {
    if (slot_ == kSlots) return;
    g_slots[slot_].readers.store(0);
    g_slots[slot_].entry.store(nullptr);
}

SigbusEntry::~SigbusEntry() {
    if (slot_ == kSlots) return;
    g_slots[slot_].entry.store(nullptr);
    while (g_slots[slot_].readers.load() > 0) ::sched_yield();
}

}  // namespace refault::client
