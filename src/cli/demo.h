// `refault demo`: a pool of four memory devices of its own and four client processes that use it
// without a pause. First act: one device is pulled from under them. Second act: one is torn out,
// and pages of another go bad. Everything that was promised is checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace refault::cli {

struct DemoOptions {
    bool json = false;
    double seconds = 1.0;  // how long the clients run before the pull, after it, and after the loss
    std::uint64_t device_bytes = 256ull << 20;
};

// Exit status: 0 when every promise was kept.
int run_demo(const DemoOptions& options);
// One of its client processes.
int run_demo_client(std::vector<std::string> args);

}  // namespace refault::cli
