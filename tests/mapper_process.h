// Programs under test that are driven line by line: child processes of the test, ended with their
// objects. refault-mapper (mapper.cc) maps a file by the library.
#pragma once

#include <sys/types.h>

#include <cstdio>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "tests/support.h"

namespace refault::tests {

class Talker {
  public:
    // A program beside this one. Its first line is read and kept.
    explicit Talker(const std::vector<std::string>& arguments);
    ~Talker();
    Talker(const Talker&) = delete;
    Talker& operator=(const Talker&) = delete;

    // "ready", or why it is not.
    const std::string& greeting() const { return greeting_; }
    // Its answer; empty when it has died, or hangs.
    std::string say(const std::string& line);
    // Without waiting for the answer, which answer() reads.
    void begin(const std::string& line);
    std::string answer();

    pid_t pid() const { return pid_; }
    // SIGSTOP, and waits until it has stopped.
    void stop();
    void go_on();
    // Whether it has ended by itself.
    bool has_ended();
    void kill();
    // Waits for its end; what waitpid says.
    int wait_for_end();

  private:
    pid_t pid_ = -1;
    base::UniqueFd commands_;
    FILE* answers_ = nullptr;
    std::string greeting_;
};

class Mapper : public Talker {
  public:
    enum class Access { Read, Write };
    enum class Notice { Late, Early, Descriptor };
    Mapper(Pool& pool, const std::string& path, Access access, Notice notice = Notice::Late);

    std::string store(std::uint64_t offset, unsigned byte, std::uint64_t length = 4096);
    std::string load(std::uint64_t offset, std::uint64_t length = 4096);
    std::string persist(std::uint64_t offset, std::uint64_t length = 4096);
};

// BUS_MCEERR_AR at this offset of the mapping, one page.
std::string lost_at(std::uint64_t offset);

}  // namespace refault::tests
