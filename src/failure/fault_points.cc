// Counting and failing.
#include "failure/fault_points.h"

#include <signal.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <thread>

namespace refault::failure {

using base::Code;
using base::Error;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// Whoever has armed a point may have died.
constexpr std::chrono::seconds kHoldLimit{60};

// The table is in the order of the enumeration.
constexpr bool is_in_order() {
    for (std::size_t i = 0; i < kFaultPoints.size(); ++i)
        if (static_cast<std::size_t>(kFaultPoints[i].point) != i) return false;
    return true;
}
static_assert(is_in_order());

std::size_t index(FaultPoint point) {
    return static_cast<std::size_t>(point);
}

}  // namespace

std::optional<FaultPoint> fault_point_of(std::string_view name) noexcept {
    for (const auto& info : kFaultPoints)
        if (info.name == name) return info.point;
    return std::nullopt;
}

void FaultPoints::arm(FaultPoint point, std::uint64_t times, Action action) noexcept {
    auto& counts = counts_[index(point)];
    counts.action.store(action, std::memory_order_relaxed);
    counts.armed.store(times, std::memory_order_relaxed);
    ++counts.arming;
}

Status FaultPoints::pass(FaultPoint point) noexcept {
    auto& counts = counts_[index(point)];
    counts.passed.fetch_add(1, std::memory_order_relaxed);
    const auto arming = counts.arming.load();
    auto armed = counts.armed.load(std::memory_order_relaxed);
    while (armed > 0)
        if (counts.armed.compare_exchange_weak(armed, armed - 1, std::memory_order_relaxed)) {
            counts.failed.fetch_add(1, std::memory_order_relaxed);
            const auto action = counts.action.load(std::memory_order_relaxed);
            if (action == Action::Kill) (void)::raise(SIGKILL);
            if (action == Action::Hold) {
                const auto deadline = steady_clock::now() + kHoldLimit;
                while (counts.arming.load() == arming && steady_clock::now() < deadline)
                    std::this_thread::sleep_for(milliseconds(1));
                return {};
            }
            return Error(
                Code::Io,
                "fault point " + std::string(kFaultPoints[index(point)].name) + " is armed", EIO);
        }
    return {};
}

std::uint64_t FaultPoints::passed(FaultPoint point) const noexcept {
    return counts_[index(point)].passed.load(std::memory_order_relaxed);
}

std::uint64_t FaultPoints::failed(FaultPoint point) const noexcept {
    return counts_[index(point)].failed.load(std::memory_order_relaxed);
}

}  // namespace refault::failure
