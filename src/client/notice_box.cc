// A pipe of fixed records: each write is whole, and a program that does not read loses the newest.
#include "client/notice_box.h"

#include <fcntl.h>
#include <unistd.h>

#include "client/sigbus.h"

namespace refault::client {

base::Result<int> NoticeBox::descriptor() {
    if (!read_end_) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return base::sys_error("pipe");
        read_end_ = base::UniqueFd(ends[0]);
        write_end_ = base::UniqueFd(ends[1]);
        write_fd_.store(ends[1]);
    }
    return read_end_.get();
}

bool NoticeBox::take(rf_loss& loss) {
    return read_end_ &&
           ::read(read_end_.get(), &loss, sizeof loss) == static_cast<ssize_t>(sizeof loss);
}

void NoticeBox::put(const wire::Notice& notice) noexcept {
    switch (mode_.load()) {
        case Mode::Late:
            break;
        case Mode::Signal:
            raise_notice(notice.address, notice.length);
            break;
        case Mode::Descriptor: {
            const rf_loss loss{reinterpret_cast<void*>(static_cast<std::uintptr_t>(notice.address)),
                               notice.length,
                               notice.what == wire::Answer::Stale ? RF_STALE : RF_LOST};
            (void)!::write(write_fd_.load(), &loss, sizeof loss);
            break;
        }
    }
}

}  // namespace refault::client
