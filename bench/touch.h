// Processes that touch one page when told and say when they had its value, for the bench `refault`:
// one on a pool file, one on memory that a second process fills by userfaultfd.
#pragma once

#include "bench/child.h"

namespace refault::bench {

struct TouchState {
    std::atomic<std::uint32_t> is_ready{0};
    std::atomic<std::uint32_t> round{0};     // touch, once for each
    std::atomic<std::uint64_t> offset{0};    // what
    std::atomic<std::uint32_t> touching{0};  // the round whose touch is about to begin
    std::atomic<std::uint32_t> done{0};
    std::atomic<double> begin_s{0};  // before the touch
    std::atomic<double> end_s{0};    // the value is there
    std::atomic<std::uint32_t> value{0};
};

constexpr std::uint64_t kTouchedBytes = 32 << 20;
constexpr const char* kTouchedPath = "/bench";
constexpr std::uint32_t kTouchedValue = 7;

class Toucher {
  public:
    // `where`: a session socket, or "raw".
    static base::Result<Toucher> start(const std::string& where);
    // Sets off the touch of a page and returns.
    void touch(std::uint64_t offset);
    // Waits until the touch is asleep in the kernel.
    base::Status wait_until_blocked();
    // Waits for its end; fails when the value was wrong.
    base::Status finish();
    const TouchState& state() const { return *state_; }

  private:
    Toucher(Shared<TouchState> state, Child child)
        : state_(std::move(state)), child_(std::move(child)) {}
    Shared<TouchState> state_;
    Child child_;
};

}  // namespace refault::bench
