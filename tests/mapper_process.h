// refault-mapper (mapper.cc) as a child process of the test. Ended with its object.
#pragma once

#include <sys/types.h>

#include <cstdio>
#include <string>

#include "base/unique_fd.h"
#include "tests/support.h"

namespace refault::tests {

class Mapper {
  public:
    enum class Access { Read, Write };
    enum class Notice { Late, Early };
    Mapper(Pool& pool, const std::string& path, Access access, Notice notice = Notice::Late);
    ~Mapper();
    Mapper(const Mapper&) = delete;
    Mapper& operator=(const Mapper&) = delete;

    // Its answer; empty when it has died, or hangs.
    std::string say(const std::string& line);
    // Without waiting for the answer, which answer() reads.
    void begin(const std::string& line);
    std::string answer();

    std::string store(std::uint64_t offset, unsigned byte, std::uint64_t length = 4096);
    std::string load(std::uint64_t offset, std::uint64_t length = 4096);
    std::string persist(std::uint64_t offset, std::uint64_t length = 4096);
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
};

// BUS_MCEERR_AR at this offset of the mapping, one page.
std::string lost_at(std::uint64_t offset);

}  // namespace refault::tests
