// A named thread that is joined when its owner goes. The body must return soon after its owner asks
// it to stop (each owner has its own way of asking: an eventfd, a condition variable).
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "base/result.h"

namespace refault::base {

class NamedThread {
  public:
    NamedThread() = default;
    // `name` is shown by ps and gdb; the kernel keeps 15 characters. An exception leaving `body`
    // ends the process.
    NamedThread(std::string name, std::function<void()> body);
    NamedThread(NamedThread&&) = default;
    NamedThread& operator=(NamedThread&&) = default;

    void join() {
        if (thread_.joinable()) thread_.join();
    }
    bool joinable() const { return thread_.joinable(); }

  private:
    std::jthread thread_;
};

// For threads that a client's connection asks for: NoSpace when the system gives no more of them.
Result<NamedThread> start_thread(std::string name, std::function<void()> body);

}  // namespace refault::base
