// A place for devices of which reads and writes fail when a test says so (io_errors.cc).
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/loss_support.h"

namespace refault::tests {

// A directory whose files give EIO to daemons started while this lives, once it begins to fail.
class FailingDirectory {
  public:
    FailingDirectory() {
        std::filesystem::create_directory(path());
        ::setenv("REFAULT_FAIL_DIRECTORY", path().c_str(), 1);
        ::setenv("REFAULT_FAIL_SWITCH", trigger().c_str(), 1);
        ::setenv("LD_PRELOAD", (cli::program_directory() + "/librefault-io-errors.so").c_str(), 1);
    }
    ~FailingDirectory() {
        for (const char* name : {"REFAULT_FAIL_DIRECTORY", "REFAULT_FAIL_SWITCH", "LD_PRELOAD"})
            ::unsetenv(name);
    }
    std::string path() const { return directory_.path() + "/disk"; }
    void begin_to_fail() { std::ofstream(trigger()).close(); }
    // Reads of this page of a device in the directory fail, and nothing else.
    void make_bad(Pool& pool, const Place& place) {
        const auto directory = pool.get("/v1/devices/" + place.device).value("directory", "");
        char name[32];
        std::snprintf(name, sizeof name, "/seg-%05llu", place.offset / (2ull << 20));
        std::ofstream(trigger(), std::ios::app)
            << directory << name << " " << place.offset % (2ull << 20) << "\n";
    }

  private:
    std::string trigger() const { return directory_.path() + "/fail"; }
    TemporaryDirectory directory_;
};

}  // namespace refault::tests
