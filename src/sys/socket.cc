// SOCK_SEQPACKET with SCM_RIGHTS.
#include "sys/socket.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace refault::sys {

using base::Code;
using base::Error;
using base::sys_error;

namespace {

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        return Error(Code::Invalid,
                     "socket path '" + path + "' is empty or longer than 107 characters");
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

UniqueFd new_socket() {
    return UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
}

}  // namespace

Result<UniqueFd> connect_seqpacket(const std::string& path) {
    auto address = address_of(path);
    if (!address) return address.error();
    UniqueFd socket = new_socket();
    if (!socket) return sys_error("socket");
    int rc;
    do rc = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address);
    while (rc != 0 && errno == EINTR);
    if (rc != 0) return sys_error("connect to " + path);
    return socket;
}

Result<UniqueFd> listen_seqpacket(const std::string& path, mode_t mode) {
    auto address = address_of(path);
    if (!address) return address.error();
    if (auto probe = connect_seqpacket(path); probe)
        return Error(Code::Busy, "another daemon listens at " + path +
                                     "; stop it or choose another run directory");
    else if (probe.error().sys_errno() == ECONNREFUSED)
        ::unlink(path.c_str());
    UniqueFd socket = new_socket();
    if (!socket) return sys_error("socket");
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0)
        return sys_error("bind " + path);
    if (::chmod(path.c_str(), mode) != 0) return sys_error("chmod " + path);
    if (::listen(socket.get(), 128) != 0) return sys_error("listen " + path);
    return socket;
}

Result<UniqueFd> accept_connection(int listener, int patience_ms) {
    for (;;) {
        UniqueFd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
        if (socket) {
            // A client that never reads must not hold its thread for ever.
            const timeval patience{patience_ms / 1000, patience_ms % 1000 * 1000};
            if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) !=
                0)
                return sys_error("SO_SNDTIMEO");
            return socket;
        }
        if (errno != EINTR && errno != ECONNABORTED) return sys_error("accept");
    }
}

Result<std::pair<UniqueFd, UniqueFd>> seqpacket_pair() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return sys_error("socketpair");
    return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Status send_message(int socket, std::span<const std::uint8_t> bytes,
                    std::span<const int> descriptors, bool may_wait) {
    CHECK(descriptors.size() <= kDescriptorsMax);
    iovec piece{const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kDescriptorsMax)];
    if (!descriptors.empty()) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
        std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
    }
    const int flags = MSG_NOSIGNAL | (may_wait ? 0 : MSG_DONTWAIT);
    for (;;) {
        if (::sendmsg(socket, &message, flags) >= 0) return {};
        if (errno != EINTR) return sys_error("send");
    }
}

Result<ReceivedSizes> receive_into(int socket, std::span<std::uint8_t> bytes,
                                   std::span<UniqueFd, kDescriptorsMax> descriptors,
                                   bool may_wait) {
    for (auto& descriptor : descriptors) descriptor.reset();
    iovec piece{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kDescriptorsMax)];
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t length;
    do length = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (may_wait ? 0 : MSG_DONTWAIT));
    while (length < 0 && errno == EINTR);
    if (length < 0) return sys_error("receive");
    ReceivedSizes sizes{static_cast<std::size_t>(length), 0};
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd;
            std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
            descriptors[sizes.descriptors++] = UniqueFd(fd);
        }
    }
    if (length == 0) return Error(Code::Gone, "the peer closed the connection");
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
        return Error(Code::Corrupt,
                     "a message was too long, or its descriptors could not be taken in "
                     "(raise the limit of open files)");
    return sizes;
}

Result<Received> receive_message(int socket, std::size_t bytes_max, bool may_wait) {
    Received received;
    received.bytes.resize(bytes_max);
    std::array<UniqueFd, kDescriptorsMax> descriptors;
    auto sizes = receive_into(socket, received.bytes, descriptors, may_wait);
    if (!sizes) return sizes.error();
    received.bytes.resize(sizes->bytes);
    for (std::size_t i = 0; i < sizes->descriptors; ++i)
        received.descriptors.push_back(std::move(descriptors[i]));
    return received;
}

Result<bool> carries_descriptors(int socket) {
    std::uint8_t byte;
    iovec piece{&byte, sizeof byte};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    ssize_t length;
    // Without room for them the kernel marks the message as cut, and takes none in
    // (net/core/scm.c).
    do length = ::recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT);
    while (length < 0 && errno == EINTR);
    if (length < 0) return sys_error("receive");
    if (length == 0) return Error(Code::Gone, "the peer closed the connection");
    return (message.msg_flags & MSG_CTRUNC) != 0;
}

void refuse_descriptors(int socket) noexcept {
    constexpr int kPassRights = 83;  // SO_PASSRIGHTS, younger than the headers
    const int off = 0;
    (void)::setsockopt(socket, SOL_SOCKET, kPassRights, &off, sizeof off);
}

std::size_t unread_bytes(int socket) noexcept {
    int bytes = 0;
    return ::ioctl(socket, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? static_cast<std::size_t>(bytes)
                                                               : 0;
}

namespace {
UniqueFd any_descriptor() {
    return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}
}  // namespace

SpareDescriptor::SpareDescriptor() : spare_(any_descriptor()) {}

bool SpareDescriptor::shed(int listener) {
    spare_.reset();
    const bool is_shed =
        UniqueFd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)).get() >= 0;
    spare_ = any_descriptor();
    return is_shed;
}

Result<base::Cred> peer_cred(int socket) {
    ucred peer{};
    socklen_t length = sizeof peer;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        return sys_error("SO_PEERCRED");
    base::Cred cred{peer.uid, peer.gid, {}, peer.pid};
    cred.groups.resize(64);
    for (;;) {
        length = static_cast<socklen_t>(cred.groups.size() * sizeof(gid_t));
        if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, cred.groups.data(), &length) == 0)
            break;
        if (errno != ERANGE) return sys_error("SO_PEERGROUPS");
        cred.groups.resize(length / sizeof(gid_t));
    }
    cred.groups.resize(length / sizeof(gid_t));
    return cred;
}

bool is_seqpacket(int socket) noexcept {
    int domain = 0, type = 0;
    socklen_t length = sizeof(int);
    if (::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) return false;
    length = sizeof(int);
    if (::getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &length) != 0) return false;
    sockaddr_storage peer;
    length = sizeof peer;
    return domain == AF_UNIX && type == SOCK_SEQPACKET &&
           ::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &length) == 0;
}

bool has_hung_up(int socket) noexcept {
    pollfd poll_for{socket, POLLRDHUP, 0};
    return ::poll(&poll_for, 1, 0) > 0 && (poll_for.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace refault::sys
