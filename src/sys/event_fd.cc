// eventfd and epoll.
#include "sys/event_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

namespace refault::sys {

using base::sys_error;
using base::UniqueFd;

base::Result<UniqueFd> create_event() {
    UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd) return sys_error("eventfd");
    return fd;
}

void signal_event(int event) noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written =
        ::write(event, &one, sizeof one);  // fails only when it is readable already
}

void clear_event(int event) noexcept {
    std::uint64_t count;
    [[maybe_unused]] const auto got = ::read(event, &count, sizeof count);
}

base::Result<UniqueFd> create_epoll() {
    UniqueFd fd(::epoll_create1(EPOLL_CLOEXEC));
    if (!fd) return sys_error("epoll_create1");
    return fd;
}

base::Status epoll_add(int epoll, int fd, std::uint64_t tag) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = tag;
    if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) return sys_error("epoll_ctl");
    return {};
}

}  // namespace refault::sys
