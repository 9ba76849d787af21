// `refault demo`: a pool of four memory devices of its own and four client processes that use it
// without a pause. First act: one device is pulled from under them. Second act: one is torn out,
// and pages of another go bad. Third act: the same happens under a database of the packaged sqlite3
// on the pool's mount. Everything that was promised is checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace refault::cli {

struct DemoOptions {
    bool json = false;
    double seconds = 1.0;  // how long the programs run before and after a device goes
    std::uint64_t device_bytes = 256ull << 20;
};

// Exit status: 0 when every promise was kept.
int run_demo(const DemoOptions& options);
// One of its client processes.
int run_demo_client(std::vector<std::string> args);

}  // namespace refault::cli
