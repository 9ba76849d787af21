// Questions about SIGBUS, from the threads that got one to the daemon and back: a handler asks and
// sleeps, the pager hands the answer over.
//
//   free --ask--> waiting --answer or end--> answered --ask returns--> free
//
// ask() is async-signal-safe and may come from any number of threads; answer() and end() from the
// pager. Lock-free but for the sleep.
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

    // Nothing when the daemon is gone. The ticket is filled in.
    std::optional<wire::Verdict> ask(wire::Fault fault) noexcept;
    void answer(const wire::Verdict& verdict) noexcept;
    // No answers come any more.
    void end() noexcept;

  private:
    enum State : std::uint32_t { kFree, kTaken, kWaiting, kAnswered };
    struct Waiter {
        std::atomic<std::uint32_t> state{kFree};
        std::uint32_t round = 0;
        wire::Verdict verdict;
    };
    Waiter& take(std::uint32_t& index) noexcept;

    const int channel_;
    std::atomic<bool> has_ended_{false};
    std::array<Waiter, 64> waiters_;
};

}  // namespace refault::client
