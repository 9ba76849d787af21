// What the tests of the mount share: a pool that is mounted for the life of an object, and programs
// that use it. Whatever a test leaves behind is unmounted, also when the daemon has died.
#pragma once

#include <chrono>
#include <functional>
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

// A process that runs a function, which may meet a mount that answers late, or never. Ended with
// the object.
class Child {
  public:
    // What the function returns, at most 255, is the exit status.
    explicit Child(const std::function<int()>& work);
    ~Child();
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    pid_t pid() const { return pid_; }
    // The status, or 1000 and the signal that has ended it; -1 when it has not ended in time.
    int wait(std::chrono::milliseconds limit = std::chrono::seconds(60));

  private:
    pid_t pid_;
    int status_ = -1;
};

// What the call says, made by a process of its own: 0 or its errno; -1 when it does not return.
int errno_of(const std::function<bool()>& call);

// Waits until none of this process's children sleeps uninterruptibly.
bool no_child_hangs();

std::string failed(int error);  // "error N"

// Runs a line of shell in the directory; its output and status. Ended after `seconds` (then 124).
CommandResult shell(const std::string& directory, const std::string& line, int seconds = 60);

}  // namespace refault::tests
