// The userfaultfd system call and ioctls.
#include "sys/userfaultfd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace refault::sys {

using base::Code;
using base::Error;
using base::sys_error;

namespace {

int new_userfaultfd(int flags) {
    return static_cast<int>(::syscall(SYS_userfaultfd, flags));
}

uffdio_range kernel_range(AddressRange range) {
    return {range.begin(), range.length()};
}

// How long a change of mappings in that process is waited for.
constexpr std::chrono::milliseconds kChangePatience{100};

// EAGAIN: a change of mappings is under way in that process, and ends by itself, unless somebody
// has asked for events of it and does not read them.
template <typename Argument>
Status request(int fd, unsigned long code, Argument& argument, const char* what) {
    std::optional<std::chrono::steady_clock::time_point> deadline;
    for (;;) {
        if (::ioctl(fd, code, &argument) == 0) return {};
        if (errno != EINTR && errno != EAGAIN) return sys_error(what);
        if (errno == EINTR) continue;
        const auto now = std::chrono::steady_clock::now();
        if (!deadline) deadline = now + kChangePatience;
        if (now > *deadline) return sys_error(what, EAGAIN);
    }
}

// What the kernel says of a userfaultfd on which the handshake was made:
// "API:\taa:FEATURES:IOCTLS", in hexadecimal (fs/userfaultfd.c, userfaultfd_show_fdinfo).
std::optional<std::uint64_t> features_in_force(int fd) {
    std::ifstream file("/proc/self/fdinfo/" + std::to_string(fd));
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with("API:")) continue;
        const auto colon = line.find(':', line.find(':') + 1);
        if (colon == line.npos) return std::nullopt;
        return std::strtoull(line.c_str() + colon + 1, nullptr, 16);
    }
    return std::nullopt;
}

// Events that nobody reads hold up every change by the daemon, one of them puts descriptors into
// its table, and with signals instead of events no store waits.
constexpr std::uint64_t kFeaturesRefused = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                           UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
                                           UFFD_FEATURE_SIGBUS;

}  // namespace

Result<Userfaultfd> create_userfaultfd() {
    constexpr int kFlags = O_CLOEXEC | O_NONBLOCK;
    if (UniqueFd fd(new_userfaultfd(kFlags)); fd) return Userfaultfd{std::move(fd), true};
    if (UniqueFd node(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)); node)
        if (UniqueFd fd(::ioctl(node.get(), USERFAULTFD_IOC_NEW, kFlags)); fd)
            return Userfaultfd{std::move(fd), true};
    if (UniqueFd fd(new_userfaultfd(kFlags | UFFD_USER_MODE_ONLY)); fd)
        return Userfaultfd{std::move(fd), false};
    return Error(
        Code::NotSupported,
        "userfaultfd is not allowed to this process, so its memory could not be moved under it: "
        "check for a "
        "seccomp filter (containers), CONFIG_USERFAULTFD, or give access to /dev/userfaultfd",
        errno);
}

Status userfaultfd_handshake(int fd, Handshake handshake) {
    // Another kind of file could answer the ioctl as it likes, or never (a file of a FUSE mount).
    char target[64];
    const auto length =
        ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof target);
    if (length < 0 ||
        std::string_view(target, static_cast<std::size_t>(length)) != "anon_inode:[userfaultfd]")
        return Error(Code::Corrupt, "the first descriptor of Hello is no userfaultfd");
    // The client may have opened it otherwise; reading its events must never wait.
    (void)::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP;
    if (::ioctl(fd, UFFDIO_API, &api) != 0) {
        // It is made once in the life of a descriptor (fs/userfaultfd.c, userfaultfd_api).
        if (errno != EINVAL || handshake != Handshake::MayBeMade)
            return sys_error("userfaultfd handshake");
        const auto features = features_in_force(fd);
        if (features && (*features & kFeaturesRefused) == 0) return {};
        return Error(Code::Corrupt, "the userfaultfd has features that no daemon has asked for");
    }
    if ((api.features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM) == 0 ||
        (api.features & UFFD_FEATURE_MISSING_SHMEM) == 0)
        return Error(Code::NotSupported,
                     "this kernel cannot write-protect shared memory by userfaultfd; Linux 5.19 "
                     "or newer is needed");
    return {};
}

Result<UserfaultfdFeatures> userfaultfd_features(int fd) {
    uffdio_api api{};
    api.api = UFFD_API;
    if (::ioctl(fd, UFFDIO_API, &api) != 0) return sys_error("userfaultfd handshake");
    return UserfaultfdFeatures{(api.features & UFFD_FEATURE_MISSING_SHMEM) != 0,
                               (api.features & UFFD_FEATURE_MINOR_SHMEM) != 0,
                               (api.features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM) != 0};
}

Status userfaultfd_register(int fd, AddressRange range, FaultModes modes) {
    uffdio_register argument{};
    argument.range = kernel_range(range);
    argument.mode = (modes.missing ? UFFDIO_REGISTER_MODE_MISSING : 0) |
                    (modes.minor ? UFFDIO_REGISTER_MODE_MINOR : 0) |
                    (modes.write_protect ? UFFDIO_REGISTER_MODE_WP : 0);
    return request(fd, UFFDIO_REGISTER, argument, "UFFDIO_REGISTER");
}

Status userfaultfd_unregister(int fd, AddressRange range) {
    auto argument = kernel_range(range);
    return request(fd, UFFDIO_UNREGISTER, argument, "UFFDIO_UNREGISTER");
}

Status userfaultfd_write_protect(int fd, AddressRange range) {
    uffdio_writeprotect argument{};
    argument.range = kernel_range(range);
    argument.mode = UFFDIO_WRITEPROTECT_MODE_WP;
    return request(fd, UFFDIO_WRITEPROTECT, argument, "UFFDIO_WRITEPROTECT");
}

Status userfaultfd_lift_write_protect(int fd, AddressRange range) {
    uffdio_writeprotect argument{};
    argument.range = kernel_range(range);
    return request(fd, UFFDIO_WRITEPROTECT, argument, "UFFDIO_WRITEPROTECT");
}

Result<std::vector<FaultEvent>> userfaultfd_read(int fd) {
    std::array<uffd_msg, 64> messages;
    // O_NONBLOCK is no promise, whoever else has the descriptor can clear it and read first. A
    // kernel that knows RWF_NOWAIT here does not wait; an older one (before 6.11) is asked again
    // without, which leaves a moment between the two calls.
    iovec into{messages.data(), sizeof messages};
    auto bytes = ::preadv2(fd, &into, 1, -1, RWF_NOWAIT);
    if (bytes < 0 && (errno == EOPNOTSUPP || errno == EINVAL || errno == ESPIPE)) {
        (void)::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
        bytes = ::read(fd, messages.data(), sizeof messages);
    }
    std::vector<FaultEvent> events;
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return events;
    if (bytes < 0) return sys_error("read of a userfaultfd");
    const auto count = static_cast<std::size_t>(bytes) / sizeof(uffd_msg);
    for (std::size_t i = 0; i < count; ++i) {
        if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
        const auto& fault = messages[i].arg.pagefault;
        events.push_back({fault.address, (fault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0});
    }
    return events;
}

Status userfaultfd_wake(int fd, AddressRange range) {
    auto argument = kernel_range(range);
    return request(fd, UFFDIO_WAKE, argument, "UFFDIO_WAKE");
}

//   7f12c0000000-7f12c0200000 rw-s 00000000 00:1b 42   /file
//   ...
//   VmFlags: rd wr sh mr mw me ms uw sd        um, ui: missing and minor faults; uw: marked pages
Result<std::vector<AddressRange>> ranges_registered_for_writes_only() {
    std::ifstream smaps("/proc/self/smaps");
    if (!smaps) return sys_error("/proc/self/smaps");
    std::vector<AddressRange> found;
    unsigned long long begin = 0, end = 0;
    for (std::string line; std::getline(smaps, line);) {
        unsigned long long from = 0, to = 0;
        if (std::sscanf(line.c_str(), "%llx-%llx ", &from, &to) == 2) {
            begin = from;
            end = to;
        } else if (line.starts_with("VmFlags:")) {
            const auto has = [&](const char* flag) { return line.find(flag) != line.npos; };
            if (has(" uw") && !has(" um") && !has(" ui")) found.emplace_back(begin, end);
        }
    }
    return found;
}

}  // namespace refault::sys
