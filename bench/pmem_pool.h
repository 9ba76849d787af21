// What `persist` compares with: an object of libpmemobj in a pool set with one local replica, and a
// plain file synced by msync. Each in a process of its own, told what to do by a block of shared
// memory: PMEM_IS_PMEM_FORCE is looked at once in the life of a process.
#pragma once

#include <string>
#include <vector>

#include "bench/child.h"

namespace refault::bench {

bool has_libpmemobj();

constexpr int kRoundsOfRun = 200;
// Median of the seconds that a round says it took; the first fifth warms up. Rounds count from 1.
double median_of_rounds(const std::function<double(int round)>& action);

class PmemPool {
  public:
    // Both parts of the set are in a new directory of /dev/shm. is_forced: with
    // PMEM_IS_PMEM_FORCE=1, so that the library takes the parts for persistent memory and flushes
    // by instructions; without, it calls msync.
    static base::Result<PmemPool> create(std::uint64_t bytes, bool is_forced);
    ~PmemPool();
    PmemPool(PmemPool&& other) noexcept = default;
    PmemPool& operator=(PmemPool&&) = delete;

    // median_of_rounds, in that process.
    base::Result<double> time_persist(std::uint64_t length);

    struct State {
        std::atomic<std::uint64_t> length{0};  // of what is asked for; 0: nothing is
        std::atomic<double> seconds{0};
        std::atomic<std::uint32_t> is_ready{0};
    };

  private:
    PmemPool(std::string directory, Shared<State> state)
        : directory_(std::move(directory)), state_(std::move(state)) {}
    std::string directory_;
    Shared<State> state_;
    std::vector<Child> child_;  // one
};

}  // namespace refault::bench
