// For tests: a process that maps or holds something and stays until it is ended.
#pragma once

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace refault::failure::testing {

// A child process that runs `hold`, says so, and waits to be ended.
class Child {
  public:
    enum class FirstThread { Waits, Ends };
    explicit Child(const std::function<void()>& hold,
                   FirstThread first_thread = FirstThread::Waits) {
        int ends[2];
        if (::pipe(ends) != 0) return;
        pid_ = ::fork();
        if (pid_ == 0) {
            hold();
            (void)!::write(ends[1], "r", 1);
            if (first_thread == FirstThread::Ends) ::syscall(SYS_exit, 0);
            for (;;) ::pause();
        }
        char ready;
        (void)!::read(ends[0], &ready, 1);
        ::close(ends[0]);
        ::close(ends[1]);
    }
    ~Child() { end(); }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    void end() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }
    pid_t pid() const { return pid_; }

  private:
    pid_t pid_ = -1;
};

}  // namespace refault::failure::testing
