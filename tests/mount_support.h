// What the tests of the mount share: a pool that is mounted for the life of an object, and programs
// that use it. Whatever a test leaves behind is unmounted, also when the daemon has died.
#pragma once

#include <string>
#include <vector>

#include "tests/loss_support.h"

namespace refault::tests {

#define NEEDS_FUSE() \
    if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "there is no /dev/fuse to use"

class Mounted {
  public:
    explicit Mounted(Pool& pool, const std::string& options = "");
    ~Mounted();
    Mounted(const Mounted&) = delete;
    Mounted& operator=(const Mounted&) = delete;

    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }
    // True while the kernel has something mounted here.
    bool is_mounted() const;
    // The number under which the kernel has the connection in /sys/fs/fuse/connections.
    std::string connection() const;

  private:
    Pool& pool_;
    TemporaryDirectory scratch_;
    std::string path_;
};

// refault-filer (filer.cc).
class Filer : public Talker {
  public:
    Filer(const std::string& path, const std::string& how) : Talker({"refault-filer", path, how}) {}

    std::string store(std::uint64_t offset, unsigned byte, std::uint64_t length = kPage);
    std::string load(std::uint64_t offset, std::uint64_t length = kPage);
    std::string pread(std::uint64_t offset, std::uint64_t length = kPage);
    std::string pwrite(std::uint64_t offset, unsigned byte, std::uint64_t length = kPage);
};

// One that has the file mapped shared.
class SharedFiler : public Filer {
  public:
    explicit SharedFiler(const std::string& path) : Filer(path, "write") {
        EXPECT_EQ(say("map shared"), "ok");
    }
};

std::string failed(int error);  // "error N"

// Runs a line of shell in the directory; its output and status. Ended after `seconds` (then 124).
CommandResult shell(const std::string& directory, const std::string& line, int seconds = 60);

}  // namespace refault::tests
