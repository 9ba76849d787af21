// Reading requests and writing replies by libfuse's custom_io.
#include "mount/kernel_channel.h"

#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

#include "mount/context.h"

namespace refault::mount {

namespace {

// The buffers of libfuse are aligned for these, and hold what the header says.
template <typename Part>
Part* part_at(std::span<std::uint8_t> request, std::size_t offset) {
    if (request.size() < offset + sizeof(Part)) return nullptr;
    return reinterpret_cast<Part*>(request.data() + offset);
}

KernelChannel& channel_of(void* user) {
    return static_cast<Context*>(user)->channel;
}

ssize_t read_request(int fd, void* buffer, std::size_t size, void* user) {
    const auto got = ::read(fd, buffer, size);
    if (got > 0)
        channel_of(user).translate_request(
            {static_cast<std::uint8_t*>(buffer), static_cast<std::size_t>(got)});
    return got;
}

ssize_t write_reply(int fd, iovec* parts, int count, void* user) {
    channel_of(user).translate_reply({parts, static_cast<std::size_t>(count)});
    return ::writev(fd, parts, count);
}

}  // namespace

base::Status KernelChannel::attach(fuse_session* session) {
    fuse_custom_io io{};
    io.read = read_request;
    io.writev = write_reply;
    const int failed = fuse_session_custom_io(session, &io, fuse_session_fd(session));
    if (failed != 0) return base::Error(base::Code::Io, "libfuse takes no channel", -failed);
    return {};
}

void KernelChannel::translate_request(std::span<std::uint8_t> request) {
    auto* const header = part_at<fuse_in_header>(request, 0);
    if (header == nullptr) return;
    constexpr auto kBody = sizeof(fuse_in_header);
    switch (header->opcode) {
        case FUSE_INIT:
            if (const auto* init = part_at<fuse_init_in>(request, kBody);
                init != nullptr && (init->flags & FUSE_HANDLE_KILLPRIV_V2))
                init_request_.store(header->unique);
            break;
        case FUSE_OPEN:
            if (auto* open = part_at<fuse_open_in>(request, kBody);
                open != nullptr && (open->open_flags & FUSE_OPEN_KILL_SUIDGID))
                open->flags |= kKillsPrivileges;
            break;
        case FUSE_WRITE:
            if (auto* write = part_at<fuse_write_in>(request, kBody);
                write != nullptr && (write->write_flags & FUSE_WRITE_KILL_SUIDGID))
                write->flags |= kKillsPrivileges;
            break;
        case FUSE_TMPFILE: {
            constexpr auto kName = kBody + sizeof(fuse_create_in);
            if (request.size() < kName + sizeof "/") break;
            header->opcode = FUSE_CREATE;
            std::memcpy(request.data() + kName, kNoName, sizeof "/");
            break;
        }
        default:
            break;
    }
}

void KernelChannel::translate_reply(std::span<const iovec> parts) {
    if (init_request_.load() == 0 || parts.size() < 2 || parts[0].iov_len < sizeof(fuse_out_header))
        return;
    const auto* header = static_cast<const fuse_out_header*>(parts[0].iov_base);
    if (header->unique != init_request_.load() || header->error != 0 ||
        parts[1].iov_len < offsetof(fuse_init_out, max_background))
        return;
    static_cast<fuse_init_out*>(parts[1].iov_base)->flags |= FUSE_HANDLE_KILLPRIV_V2;
    init_request_.store(0);
}

}  // namespace refault::mount
