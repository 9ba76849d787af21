// Starting, waiting for and ending them.
#include "bench/child.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "bench/harness.h"
#include "cli/local_daemon.h"

namespace refault::bench {

bool wait_for(const std::function<bool()>& condition) {
    constexpr double kPatienceS = 30;
    const double start = now_s();
    while (!condition()) {
        if (now_s() - start > kPatienceS) return false;
        ::usleep(200);
    }
    return true;
}

base::Result<Child> Child::start(const std::string& name, std::vector<std::string> arguments,
                                 const std::vector<int>& descriptors) {
    arguments.insert(arguments.begin(), "child-" + name);
    auto pid =
        cli::start_program(cli::program_directory() + "/refault-bench", arguments, descriptors);
    if (!pid) return pid.error();
    return Child(*pid);
}

bool Child::has_ended() {
    if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = -1;
    return pid_ <= 0;
}

Child::~Child() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

}  // namespace refault::bench
