// Reading requests and writing replies by libfuse's custom_io.
#include "mount/kernel_channel.h"

#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstddef>
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
    const std::span reply(parts, static_cast<std::size_t>(count));
    if (channel_of(user).translate_reply(reply)) return ::writev(fd, parts, count);
    ssize_t length = 0;
    for (const auto& part : reply) length += static_cast<ssize_t>(part.iov_len);
    return length;
}

base::Status attach_to(fuse_session* session, int connection) {
    fuse_custom_io io{};
    io.read = read_request;
    io.writev = write_reply;
    const int failed = fuse_session_custom_io(session, &io, connection);
    if (failed != 0) return base::Error(base::Code::Io, "libfuse takes no channel", -failed);
    return {};
}

}  // namespace

base::Status KernelChannel::attach(fuse_session* session) {
    return attach_to(session, fuse_session_fd(session));
}

base::Status KernelChannel::resume(fuse_session* session, base::UniqueFd connection,
                                   const Agreement& agreement) {
    RETURN_IF_ERROR(attach_to(session, connection.get()));
    (void)connection.release();
    is_resuming_ = true;
    auto request = agreement.request;
    translate_request(request);
    if (init_request_.load() == 0)
        return base::Error(base::Code::Corrupt, "what was handed over is no FUSE_INIT");
    fuse_buf buffer{};
    buffer.mem = request.data();
    buffer.size = request.size();
    fuse_session_process_buf(session, &buffer);
    is_resuming_ = false;
    if (agreement_.reply == agreement.reply) return {};
    return base::Error(base::Code::NotSupported,
                       "this version asks other things of the kernel than the one before");
}

void KernelChannel::translate_request(std::span<std::uint8_t> request) {
    auto* const header = part_at<fuse_in_header>(request, 0);
    if (header == nullptr) return;
    constexpr auto kBody = sizeof(fuse_in_header);
    switch (header->opcode) {
        case FUSE_INIT:
            // What came after it is not there in older kernels, and not needed here.
            if (request.size() < kBody + offsetof(fuse_init_in, flags2)) break;
            asked_.assign(request.begin(), request.end());
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

bool KernelChannel::translate_reply(std::span<const iovec> parts) {
    if (init_request_.load() == 0 || parts.empty() || parts[0].iov_len < sizeof(fuse_out_header))
        return true;
    const auto* header = static_cast<const fuse_out_header*>(parts[0].iov_base);
    if (header->unique != init_request_.load()) return true;
    init_request_.store(0);
    if (header->error != 0 || parts.size() < 2) return !is_resuming_;
    if (parts[1].iov_len >= offsetof(fuse_init_out, max_background)) {
        std::uint32_t flags = 0;
        std::memcpy(&flags, asked_.data() + sizeof(fuse_in_header) + offsetof(fuse_init_in, flags),
                    sizeof flags);
        static_cast<fuse_init_out*>(parts[1].iov_base)->flags |= flags & FUSE_HANDLE_KILLPRIV_V2;
    }
    const auto* bytes = static_cast<const std::uint8_t*>(parts[1].iov_base);
    agreement_ = {std::move(asked_), {bytes, bytes + parts[1].iov_len}};
    return !is_resuming_;
}

}  // namespace refault::mount
