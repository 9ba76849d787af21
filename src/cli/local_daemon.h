// A daemon of one's own, for the demo, the benches and tests: a refaultd process with a run
// directory under the temporary directory. Ends the process and removes the directory when it goes,
// also when the parent dies (the child asks the kernel for SIGTERM then). Not thread-safe.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace refault::cli {

class LocalDaemon {
  public:
    // Starts `binary` (empty: the refaultd beside this program) with these arguments behind
    // --run-dir, and waits for its ready line.
    static base::Result<LocalDaemon> start(const std::vector<std::string>& arguments,
                                           const std::string& binary = "");
    ~LocalDaemon();
    LocalDaemon(LocalDaemon&& other) noexcept;
    LocalDaemon& operator=(LocalDaemon&&) = delete;

    pid_t pid() const noexcept { return pid_; }
    const std::string& run_dir() const noexcept { return run_dir_; }
    std::string control_socket() const { return run_dir_ + "/control.sock"; }
    std::string session_socket() const { return run_dir_ + "/session.sock"; }
    // Ends it in good order; error when it did not exit with 0.
    base::Status stop();
    // SIGKILL, and waits for its end. The run directory stays.
    void kill();
    // Another one in the same run directory, when this one has ended.
    base::Status start_again(const std::vector<std::string>& arguments,
                             const std::string& binary = "");

  private:
    LocalDaemon() = default;
    base::Status launch(const std::vector<std::string>& arguments, const std::string& binary);
    pid_t pid_ = -1;
    std::string run_dir_;
};

// The directory of the running program.
std::string program_directory();

// Where PATH has the program; empty when nowhere.
std::string find_program(const std::string& name);

// -1: /dev/null to read from, and what the parent writes to.
struct ProgramStreams {
    int in = -1;
    int out = -1;
    int err = -1;
};

// Starts a program with these descriptors left open in the child (all others are close-on-exec).
// The child gets SIGTERM when this process dies.
base::Result<pid_t> start_program(const std::string& path,
                                  const std::vector<std::string>& arguments,
                                  const std::vector<int>& keep_open = {},
                                  const ProgramStreams& streams = {});

}  // namespace refault::cli
