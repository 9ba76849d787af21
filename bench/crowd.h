// Processes of a bench that hold something and wait until they are ended.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <vector>

namespace refault::bench {

class Crowd {
  public:
    // Each runs `hold` first; all have done so when this returns.
    Crowd(std::size_t processes, const std::function<void()>& hold);
    ~Crowd();
    Crowd(const Crowd&) = delete;
    Crowd& operator=(const Crowd&) = delete;

  private:
    std::vector<pid_t> pids_;
};

}  // namespace refault::bench
