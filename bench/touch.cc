// The processes, and how they are driven.
#include "bench/touch.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <fstream>

#include "base/range.h"
#include "bench/harness.h"
#include "bench/pool_file.h"
#include "sys/userfaultfd.h"

namespace refault::bench {

namespace {

constexpr std::uint64_t kPage = base::kPageBytes;

// `prepare`: before each touch, untimed.
[[noreturn]] void touch_when_told(TouchState& state, const std::byte* bytes,
                                  const std::function<void(std::uint64_t)>& prepare) {
    state.is_ready.store(1);
    for (std::uint32_t round = 1;; ++round) {
        while (state.round.load() != round) ::usleep(100);
        const auto offset = state.offset.load();
        prepare(offset);
        state.touching.store(round);
        const double begin = now_s();
        const auto value = *reinterpret_cast<const volatile std::byte*>(bytes + offset);
        const double end = now_s();
        state.begin_s.store(begin);
        state.end_s.store(end);
        state.value.store(static_cast<std::uint32_t>(value));
        state.done.store(round);
    }
}

// Answers every missing page of its parent with a copy of one page.
[[noreturn]] void resolve_for_parent(int fd) {
    alignas(kPage) static std::byte page[kPage];
    std::memset(page, kTouchedValue, sizeof(page));
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // A blocking read: the quickest way to learn of a fault.
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    for (;;) {
        uffd_msg message{};
        if (::read(fd, &message, sizeof(message)) != sizeof(message)) ::_exit(1);
        uffdio_copy copy{};
        copy.dst = base::align_down(message.arg.pagefault.address, kPage);
        copy.src = reinterpret_cast<std::uintptr_t>(page);
        copy.len = kPage;
        if (::ioctl(fd, UFFDIO_COPY, &copy) != 0) ::_exit(1);
    }
}

int touch_raw(TouchState& state) {
    auto made = sys::create_userfaultfd();
    if (!made || !sys::userfaultfd_handshake(made->fd.get())) return 1;
    base::UniqueFd memory(::memfd_create("refault-bench", MFD_CLOEXEC));
    if (!memory || ::ftruncate(memory.get(), kTouchedBytes) != 0) return 1;
    void* at = ::mmap(nullptr, kTouchedBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
    if (at == MAP_FAILED) return 1;
    const auto range =
        base::AddressRange::of_length(reinterpret_cast<std::uintptr_t>(at), kTouchedBytes);
    if (!sys::userfaultfd_register(made->fd.get(), range, {.missing = true})) return 1;
    if (::fork() == 0) resolve_for_parent(made->fd.get());
    const auto* bytes = static_cast<const std::byte*>(at);
    // Every page is there at first, as in the pool file.
    for (std::uint64_t page = 0; page < kTouchedBytes; page += kPage)
        (void)*reinterpret_cast<const volatile std::byte*>(bytes + page);
    touch_when_told(state, bytes, [&](std::uint64_t offset) {
        (void)::fallocate(memory.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          static_cast<off_t>(offset), kPage);
    });
}

int touch_pool(TouchState& state, const std::string& socket) {
    auto session = PoolSession::connect(socket);
    if (!session) return 1;
    auto mapping = PoolMapping::open(*session, kTouchedPath, kTouchedBytes);
    if (!mapping) return 1;
    std::memset(mapping->address(), kTouchedValue, kTouchedBytes);
    touch_when_told(state, mapping->address(), [](std::uint64_t) {});
}

// The letter of /proc/PID/stat: S or D once it is asleep.
char run_state(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    std::getline(stat, line);
    const auto name_end = line.rfind(')');
    return name_end == std::string::npos || name_end + 2 >= line.size() ? '?' : line[name_end + 2];
}

}  // namespace

// SOCKET|raw STATE-FD
int run_toucher(const std::vector<std::string>& arguments) {
    if (arguments.size() != 2) return 2;
    auto state = Shared<TouchState>::inherited(arguments[1]);
    if (!state) return 1;
    return arguments[0] == "raw" ? touch_raw(**state) : touch_pool(**state, arguments[0]);
}

base::Result<Toucher> Toucher::start(const std::string& where) {
    auto state = Shared<TouchState>::create();
    if (!state) return state.error();
    auto child = Child::start("toucher", {where, std::to_string(state->fd())}, {state->fd()});
    if (!child) return child.error();
    if (!wait_for([&] { return (*state)->is_ready.load() == 1 || child->has_ended(); }) ||
        child->has_ended())
        return base::Error(base::Code::Gone, "the process that touches ended");
    return Toucher(std::move(*state), std::move(*child));
}

void Toucher::touch(std::uint64_t offset) {
    state_->offset.store(offset);
    state_->round.fetch_add(1);
}

base::Status Toucher::wait_until_blocked() {
    const auto round = state_->round.load();
    const auto is_blocked = [&] {
        if (state_->touching.load() != round) return false;
        const char letter = run_state(child_.pid());
        return letter == 'S' || letter == 'D';
    };
    if (wait_for(is_blocked) && state_->done.load() != round) return {};
    return base::Error(base::Code::Io, "the touch did not wait");
}

base::Status Toucher::finish() {
    const auto round = state_->round.load();
    if (!wait_for([&] { return state_->done.load() == round || child_.has_ended(); }) ||
        state_->done.load() != round)
        return base::Error(base::Code::TimedOut, "the touch did not end");
    if (state_->value.load() != kTouchedValue)
        return base::Error(base::Code::Corrupt, "the touch saw another value");
    return {};
}

}  // namespace refault::bench
