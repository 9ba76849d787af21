// `refault demo`: a pool of three memory devices of its own, four client processes that use it
// without a pause, one device pulled from under them, and a check of everything that was promised.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace refault::cli {

struct DemoOptions {
    bool json = false;
    double seconds = 1.0;  // how long the clients run before and after the pull
    std::uint64_t device_bytes = 256ull << 20;
};

// Exit status: 0 when every promise was kept.
int run_demo(const DemoOptions& options);
// One of its client processes.
int run_demo_client(std::vector<std::string> args);

}  // namespace refault::cli
