// The time of day as inodes keep it. Stateless, any thread.
#pragma once

#include <cstdint>
#include <ctime>

namespace refault::store {

// Nanoseconds since the epoch.
inline std::uint64_t now_ns() noexcept {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace refault::store
