// Waiting by futex: a signal handler may use neither mutexes of the program nor the heap.
#include "client/fault_line.h"

#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

namespace refault::client {

namespace {

constexpr std::uint32_t kIndexBits = 8;

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept {
    // Bounded, so that an end that comes between the look and the sleep is seen.
    const timespec limit{0, 100'000'000};
    (void)::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, &limit, nullptr, 0);
}

void futex_wake(std::atomic<std::uint32_t>& word) noexcept {
    (void)::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace

FaultLine::Waiter& FaultLine::take(std::uint32_t& index) noexcept {
    for (;;) {
        for (index = 0; index < waiters_.size(); ++index) {
            std::uint32_t expected = kFree;
            if (waiters_[index].state.compare_exchange_strong(expected, kTaken))
                return waiters_[index];
        }
        const timespec pause{0, 1'000'000};
        (void)::nanosleep(&pause, nullptr);
    }
}

// Until there is an answer, or no daemon that could give one.
void FaultLine::ask_one(Waiter& waiter, const wire::Fault& fault) noexcept {
    const auto daemon = daemon_.load();
    const auto message = wire::encode_fault(fault);
    ssize_t sent;
    do sent = ::send(channel_, message.data(), message.size(), MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    while (waiter.state.load() == kWaiting && !has_ended_.load() && daemon_.load() == daemon)
        futex_wait(waiter.state, kWaiting);
}

std::optional<wire::Verdict> FaultLine::ask(wire::Fault fault) noexcept {
    std::uint32_t index = 0;
    Waiter& waiter = take(index);
    fault.ticket = ++waiter.round << kIndexBits | index;
    waiter.verdict.ticket = fault.ticket;
    waiter.state.store(kWaiting);
    while (waiter.state.load() == kWaiting && !has_ended_.load()) ask_one(waiter, fault);
    std::optional<wire::Verdict> verdict;
    if (waiter.state.load() == kAnswered) verdict = waiter.verdict;
    waiter.state.store(kFree);
    return verdict;
}

void FaultLine::answer(const wire::Verdict& verdict) noexcept {
    const auto index = verdict.ticket & ((1u << kIndexBits) - 1);
    if (index >= waiters_.size()) return;
    Waiter& waiter = waiters_[index];
    if (waiter.state.load() != kWaiting || waiter.verdict.ticket != verdict.ticket) return;
    waiter.verdict = verdict;
    waiter.state.store(kAnswered);
    futex_wake(waiter.state);
}

void FaultLine::renewed() noexcept {
    has_ended_.store(false);
    daemon_.fetch_add(1);
    for (auto& waiter : waiters_) futex_wake(waiter.state);
}

void FaultLine::end() noexcept {
    has_ended_.store(true);
    for (auto& waiter : waiters_) futex_wake(waiter.state);
}

}  // namespace refault::client
