// What the kernel keeps of replies, and what it would not take.
#include "fuzz/kernel.h"

#include <unistd.h>

#include "mount/open_inodes.h"

namespace refault::fuzz {

namespace {

// fs/fuse/dev.c, fuse_dev_do_write: beyond this an error is none.
constexpr std::int32_t kErrorEnd = -512;
// A time in nanoseconds ends in the year 2554.
constexpr std::uint64_t kSecondsMax = UINT64_MAX / 1'000'000'000;

bool is_direct(std::uint64_t handle) {
    return static_cast<mount::OpenMode>(handle) == mount::OpenMode::Direct;
}

}  // namespace

Kernel::Kernel() : buffer_(2 * std::size_t{kBytesMax}) {
    int ends[2];
    CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    ours_ = base::UniqueFd(ends[0]);
    theirs_ = base::UniqueFd(ends[1]);
    const int bytes = kBytesMax + 4096;
    for (const int end : ends)
        CHECK(::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0);
}

void Kernel::send(const KernelRequest& request) {
    request_ = request;
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + request.body.size());
    header.opcode = request.opcode;
    header.unique = ++last_;
    header.nodeid = request.node;
    header.uid = header.gid = request.user;
    header.pid = 1;
    Bytes message(header.len);
    std::memcpy(message.data(), &header, sizeof header);
    std::copy(request.body.begin(), request.body.end(), message.begin() + sizeof header);
    CHECK(::send(ours_.get(), message.data(), message.size(), MSG_DONTWAIT) ==
          static_cast<ssize_t>(message.size()));
    if (is_ready_) note_given_back();
}

bool Kernel::expects_reply() const {
    if (request_.is_given_up) return false;
    if (!is_ready_) return true;
    return request_.opcode != FUSE_FORGET && request_.opcode != FUSE_BATCH_FORGET &&
           request_.opcode != FUSE_INTERRUPT;
}

// What a request takes back is gone, whatever the answer.
void Kernel::note_given_back() {
    switch (request_.opcode) {
        case FUSE_FORGET:
            return forget(request_.node, asked<fuse_forget_in>().nlookup);
        case FUSE_BATCH_FORGET:
            for (std::uint32_t i = 0; i < asked<fuse_batch_forget_in>().count; ++i) {
                const auto one = asked<fuse_forget_one>(sizeof(fuse_batch_forget_in) +
                                                        i * sizeof(fuse_forget_one));
                forget(one.nodeid, one.nlookup);
            }
            return;
        case FUSE_RELEASE:
            return close_file();
        case FUSE_RELEASEDIR:
            directories_.erase(asked<fuse_release_in>().fh);
            return;
        case FUSE_INTERRUPT:
            interrupts_.insert(last_);
            return;
        default:
            return;
    }
}

void Kernel::forget(std::uint64_t node, std::uint64_t count) {
    const auto at = lookups_.find(node);
    if (at == lookups_.end()) return;
    at->second -= std::min(count, at->second);
    if (at->second == 0) lookups_.erase(at);
}

void Kernel::close_file() {
    const auto at = opens_.find(request_.node);
    if (at == opens_.end()) return;
    auto& count = is_direct(asked<fuse_release_in>().fh) ? at->second.direct : at->second.cached;
    if (count > 0) --count;
    if (at->second == Opens{}) opens_.erase(at);
}

void Kernel::take_replies() {
    bool has_reply = false;
    for (;;) {
        const auto got = ::recv(ours_.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
        if (got < 0) {
            CHECK(errno == EAGAIN);
            break;
        }
        const auto reply = Input(buffer_).first(static_cast<std::size_t>(got));
        const auto header = part_of<fuse_out_header>(reply);
        CHECK(header.len == reply.size());
        CHECK(header.error <= 0 && header.error > kErrorEnd);
        const auto body = reply.subspan(sizeof header);
        CHECK(header.error == 0 || body.empty());
        if (header.unique != last_) {
            // An interrupt that has met nothing: the kernel may send it again.
            CHECK(interrupts_.erase(header.unique) == 1 && header.error == -EAGAIN);
            continue;
        }
        CHECK(expects_reply() && !has_reply);
        has_reply = true;
        if (header.error == 0) check_success(body);
    }
    CHECK(has_reply == expects_reply());
}

void Kernel::check_success(Input body) {
    CHECK(is_ready_ || request_.opcode == FUSE_INIT);
    switch (request_.opcode) {
        case FUSE_INIT:
            return take_init(body);
        case FUSE_LOOKUP:
        case FUSE_MKNOD:
        case FUSE_MKDIR:
        case FUSE_SYMLINK:
        case FUSE_LINK:
        case FUSE_CREATE:
        case FUSE_TMPFILE:
            return take_entry(body);
        case FUSE_OPEN:
        case FUSE_OPENDIR:
            return take_open(body);
        case FUSE_READDIR:
        case FUSE_READDIRPLUS:
            return take_list(body);
        case FUSE_GETATTR:
        case FUSE_SETATTR:
            return check_attributes(body);
        case FUSE_READLINK:
            CHECK(!body.empty() && body.size() < 4096);
            return;
        case FUSE_READ:
            CHECK(body.size() <= asked<fuse_read_in>().size);
            return;
        case FUSE_WRITE:
            CHECK(body.size() == sizeof(fuse_write_out));
            CHECK(part_of<fuse_write_out>(body).size == asked<fuse_write_in>().size);
            return;
        case FUSE_COPY_FILE_RANGE:
            CHECK(body.size() == sizeof(fuse_write_out));
            CHECK(part_of<fuse_write_out>(body).size <= asked<fuse_copy_file_range_in>().len);
            return;
        case FUSE_STATFS:
            CHECK(body.size() == (minor_ < 4 ? FUSE_COMPAT_STATFS_SIZE : sizeof(fuse_statfs_out)));
            return;
        case FUSE_GETXATTR:
        case FUSE_LISTXATTR: {
            const auto size = asked<fuse_getxattr_in>().size;
            CHECK(size == 0 ? body.size() == sizeof(fuse_getxattr_out) : body.size() <= size);
            return;
        }
        case FUSE_LSEEK:
            CHECK(body.size() == sizeof(fuse_lseek_out));
            CHECK(part_of<fuse_lseek_out>(body).offset >= asked<fuse_lseek_in>().offset);
            return;
        default:
            CHECK(body.empty());
    }
}

void Kernel::take_init(Input body) {
    const auto init = asked<fuse_init_in>();
    minor_ = init.minor;
    // 7.x is asked once more where more was asked for.
    is_ready_ = init.major == FUSE_KERNEL_VERSION;
    const std::size_t length = init.major > FUSE_KERNEL_VERSION ? sizeof(fuse_init_out)
                               : minor_ < 5                     ? FUSE_COMPAT_INIT_OUT_SIZE
                               : minor_ < 23                    ? FUSE_COMPAT_22_INIT_OUT_SIZE
                                                                : sizeof(fuse_init_out);
    CHECK(body.size() == length);
}

void Kernel::check_attributes(Input body) const {
    const auto length = minor_ < 9 ? FUSE_COMPAT_ATTR_OUT_SIZE : sizeof(fuse_attr_out);
    CHECK(body.size() == length);
    const auto attributes = part_of<fuse_attr_out>(body, 0, length).attr;
    CHECK(attributes.ino == request_.node);
    if (request_.opcode != FUSE_SETATTR) return;
    const auto wanted = asked<fuse_setattr_in>();
    if ((wanted.valid & FATTR_MTIME) == 0 || (wanted.valid & FATTR_MTIME_NOW) != 0) return;
    // The nearest that can be kept, not any other.
    const bool is_before = static_cast<std::int64_t>(wanted.mtime) < 0;
    CHECK(attributes.mtime >= (is_before ? 0 : std::min(wanted.mtime, kSecondsMax)));
    CHECK(!is_before || attributes.mtime == 0);
}

void Kernel::take_entry(Input body) {
    const bool is_create = request_.opcode == FUSE_CREATE || request_.opcode == FUSE_TMPFILE;
    const auto length = minor_ < 9 ? FUSE_COMPAT_ENTRY_OUT_SIZE : sizeof(fuse_entry_out);
    CHECK(body.size() == length + (is_create ? sizeof(fuse_open_out) : 0));
    const auto node = part_of<fuse_entry_out>(body, 0, length).nodeid;
    // That there is none is kept as well.
    CHECK(node != 0 || request_.opcode == FUSE_LOOKUP);
    if (node == 0) return;
    ++lookups_[node];
    met_.push_back(node);
    if (!is_create) return;
    const auto handle = part_of<fuse_open_out>(body, length).fh;
    ++(is_direct(handle) ? opens_[node].direct : opens_[node].cached);
}

void Kernel::take_open(Input body) {
    CHECK(body.size() == sizeof(fuse_open_out));
    const auto open = part_of<fuse_open_out>(body);
    if (request_.opcode == FUSE_OPENDIR) {
        CHECK(directories_.insert(open.fh).second);
        return;
    }
    CHECK(is_direct(open.fh) == ((open.open_flags & FOPEN_DIRECT_IO) != 0));
    auto& opens = opens_[request_.node];
    ++(is_direct(open.fh) ? opens.direct : opens.cached);
    // Pages that are cached, and others that pass by, would differ.
    CHECK(opens.cached == 0 || opens.direct == 0);
}

void Kernel::take_list(Input body) {
    CHECK(body.size() <= asked<fuse_read_in>().size);
    const bool has_attributes = request_.opcode == FUSE_READDIRPLUS;
    const std::size_t before = has_attributes ? sizeof(fuse_entry_out) : 0;
    while (!body.empty()) {
        const auto entry = part_of<fuse_dirent>(body, before);
        CHECK(entry.namelen > 0 && entry.namelen <= 255);
        const auto length = FUSE_DIRENT_ALIGN(before + FUSE_NAME_OFFSET + entry.namelen);
        CHECK(length <= body.size());
        if (has_attributes) {
            const auto node = part_of<fuse_entry_out>(body).nodeid;
            CHECK(node == 0 || node == entry.ino);
            if (node != 0) ++lookups_[node], met_.push_back(node);
        }
        body = body.subspan(length);
    }
}

}  // namespace refault::fuzz
