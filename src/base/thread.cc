// Thread start with a name the kernel knows.
#include "base/thread.h"

#include <pthread.h>

#include <system_error>

namespace refault::base {

NamedThread::NamedThread(std::string name, std::function<void()> body)
    : thread_([name = std::move(name), body = std::move(body)]() noexcept {
          pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
          body();
      }) {}

Result<NamedThread> start_thread(std::string name, std::function<void()> body) {
    try {
        return NamedThread(std::move(name), std::move(body));
    } catch (const std::system_error&) {
        return Error(Code::NoSpace, "the system gives no more threads; raise TasksMax or ulimit -u",
                     EAGAIN);
    }
}

}  // namespace refault::base
