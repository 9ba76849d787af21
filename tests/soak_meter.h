// What a soak measures of a daemon while it works: anonymous memory, descriptors and threads by the
// kernel's figures, and how they grow. Each daemon has a series of its own; another process begins
// another. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support.h"

namespace refault::tests {

class SoakMeter {
  public:
    explicit SoakMeter(std::string name) : name_(std::move(name)) {}

    void sample(pid_t pid, std::uint64_t step);

    struct Growth {
        std::uint64_t from_step = 0, to_step = 0;
        double first = 0, last = 0;  // means of a tenth of the samples
        double per_1000_steps = 0;   // the slope of the straight line through them
        double over_run() const {
            return per_1000_steps * static_cast<double>(to_step - from_step) / 1000;
        }
    };
    // Of the daemon that lived longest, without the first third of its life: until then it fills
    // what it keeps.
    Growth memory() const { return growth(&Sample::anonymous_bytes); }
    Growth descriptors() const { return growth(&Sample::descriptors); }
    Growth threads() const { return growth(&Sample::threads); }
    double latest_mib() const;
    // Empty when both are flat, or the run was too short to say.
    std::string finding() const;
    std::string text() const;
    Json json() const;

  private:
    struct Sample {
        std::uint64_t step = 0;
        double anonymous_bytes = 0, descriptors = 0, threads = 0;
    };
    struct Life {
        pid_t pid = 0;
        std::vector<Sample> samples;
    };
    const Life* longest() const;
    Growth growth(double Sample::*figure) const;

    const std::string name_;
    std::vector<Life> lives_;
};

}  // namespace refault::tests
