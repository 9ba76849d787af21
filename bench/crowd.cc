// Forking and ending.
#include "bench/crowd.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace refault::bench {

Crowd::Crowd(std::size_t processes, const std::function<void()>& hold) {
    for (std::size_t i = 0; i < processes; ++i) {
        int ends[2];
        if (::pipe(ends) != 0) return;
        const pid_t pid = ::fork();
        if (pid == 0) {
            hold();
            (void)!::write(ends[1], "r", 1);
            for (;;) ::pause();
        }
        pids_.push_back(pid);
        char ready;
        (void)!::read(ends[0], &ready, 1);
        ::close(ends[0]);
        ::close(ends[1]);
    }
}

Crowd::~Crowd() {
    for (const pid_t pid : pids_) ::kill(pid, SIGKILL);
    for (const pid_t pid : pids_) ::waitpid(pid, nullptr, 0);
}

}  // namespace refault::bench
