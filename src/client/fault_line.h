// Questions about SIGBUS, from the threads that got one to the daemon and back: a handler asks and
// sleeps, the pager hands the answer over.
//
//   free --ask--> waiting --answer or end--> answered --ask returns--> free
//
// A daemon that is gone is waited for: who has asked asks the next one again.
//
// ask() is async-signal-safe and may come from any number of threads; the others are the pager's.
// Lock-free but for the sleep.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "wire/message.h"

namespace refault::client {

class FaultLine {
  public:
    // `channel`: the session's end of the pager channel.
    explicit FaultLine(int channel) : channel_(channel) {}

    // Nothing when no daemon is there that could answer. The ticket is filled in.
    std::optional<wire::Verdict> ask(wire::Fault fault) noexcept;
    void answer(const wire::Verdict& verdict) noexcept;
    // Another daemon is at the other end of the channel now, and knows of no question.
    void renewed() noexcept;
    // No answers come any more, unless it is renewed.
    void end() noexcept;

  private:
    enum State : std::uint32_t { kFree, kTaken, kWaiting, kAnswered };
    struct Waiter {
        std::atomic<std::uint32_t> state{kFree};
        std::uint32_t round = 0;
        wire::Verdict verdict;
    };
    Waiter& take(std::uint32_t& index) noexcept;
    void ask_one(Waiter& waiter, const wire::Fault& fault) noexcept;

    const int channel_;
    std::atomic<bool> has_ended_{false};
    std::atomic<std::uint32_t> daemon_{0};  // counts them
    std::array<Waiter, 64> waiters_;
};

}  // namespace refault::client
