// Errors, attributes and entries as the kernel wants them.
#include "mount/context.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>

namespace refault::mount {

using base::Code;
using base::FileRange;
using base::InodeNo;
using base::Result;
using base::Status;
using store::Attributes;
using store::FileType;

namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
constexpr std::uint64_t kSectorBytes = 512;

mode_t type_bits(FileType type) {
    switch (type) {
        case FileType::Regular:
            return S_IFREG;
        case FileType::Directory:
            return S_IFDIR;
        case FileType::Symlink:
            return S_IFLNK;
        case FileType::Fifo:
            return S_IFIFO;
        case FileType::Socket:
            return S_IFSOCK;
        case FileType::CharDevice:
            return S_IFCHR;
        case FileType::BlockDevice:
            return S_IFBLK;
    }
    return S_IFREG;
}

timespec time_of(std::uint64_t ns) {
    return {static_cast<time_t>(ns / kNsPerSecond), static_cast<long>(ns % kNsPerSecond)};
}

}  // namespace

// What went wrong inside of the pool is EIO to a program, whatever it is called inside.
int errno_for_program(const base::Error& error) {
    switch (error.code()) {
        case Code::TimedOut:
        case Code::Corrupt:
        case Code::Io:
        case Code::Gone:
        case Code::Cancelled:
            return error.sys_errno() == ESTALE ? ESTALE : EIO;
        default:
            return error.sys_errno();
    }
}

struct stat stat_of(const Attributes& attributes) {
    struct stat status {};
    status.st_ino = attributes.inode.raw();
    status.st_mode = type_bits(attributes.type) | attributes.mode;
    status.st_nlink = attributes.links;
    status.st_uid = attributes.uid;
    status.st_gid = attributes.gid;
    status.st_rdev = attributes.device;
    status.st_size = static_cast<off_t>(attributes.size_bytes);
    status.st_blksize = static_cast<blksize_t>(base::kPageBytes);
    status.st_blocks = static_cast<blkcnt_t>(attributes.allocated_bytes / kSectorBytes);
    status.st_atim = time_of(attributes.accessed_ns);
    status.st_mtim = time_of(attributes.modified_ns);
    status.st_ctim = time_of(attributes.changed_ns);
    return status;
}

store::NewNode node_of(fuse_req_t request, FileType type, mode_t mode) {
    const auto* who = fuse_req_ctx(request);
    store::NewNode node;
    node.type = type;
    node.mode = mode & store::kModeBits;
    node.uid = who->uid;
    node.gid = who->gid;
    return node;
}

void reply_error(fuse_req_t request, const base::Error& error) {
    fuse_reply_err(request, errno_for_program(error));
}

void reply_status(fuse_req_t request, const base::Status& status) {
    fuse_reply_err(request, status ? 0 : errno_for_program(status.error()));
}

fuse_entry_param entry_of(const Attributes& attributes) {
    fuse_entry_param entry{};
    entry.ino = attributes.inode.raw();
    entry.attr = stat_of(attributes);
    entry.attr_timeout = kCacheSeconds;
    entry.entry_timeout = kCacheSeconds;
    return entry;
}

void reply_entry(fuse_req_t request, const base::Result<Attributes>& attributes) {
    if (!attributes) return reply_error(request, attributes.error());
    auto& context = context_of(request);
    context.remembered.add(attributes->inode);
    const auto entry = entry_of(*attributes);
    // Who has given up meanwhile does not get it, and will not forget it either.
    if (fuse_reply_entry(request, &entry) != 0) context.remembered.forget(attributes->inode, 1);
}

Status check_offset(std::uint64_t offset) {
    if (offset <= INT64_MAX) return {};
    return base::Error(Code::Invalid, "no offset in a file", EINVAL);
}

Result<std::size_t> read_persevering(const Context& context, InodeNo inode, OpenMode mode,
                                     std::uint64_t offset, std::span<std::uint8_t> into) {
    RETURN_IF_ERROR(check_offset(offset));
    return persevere(context, inode, FileRange::of_length(offset, into.size()),
                     [&] { return context.files.read(inode, offset, into, context.caller(mode)); });
}

Result<std::size_t> write_persevering(const Context& context, InodeNo inode, OpenMode mode,
                                      std::uint64_t offset, std::span<const std::uint8_t> from) {
    RETURN_IF_ERROR(check_offset(offset));
    const auto range = FileRange::of_length(offset, from.size());
    const WritesUnderWay::Write write(context.writes, inode);
    auto written = persevere(context, inode, range, [&] {
        return context.files.write(inode, offset, from, context.caller(mode));
    });
    if (write.has_met_a_drop()) context.notifier->drop(inode, range);
    return written;
}

// What was stored behind the end in its last page is cleared on the device.
Status resize_persevering(const Context& context, InodeNo inode, OpenMode mode,
                          std::uint64_t size_bytes) {
    RETURN_IF_ERROR(check_offset(size_bytes));
    const auto last_page = base::align_down(size_bytes, base::kPageBytes);
    return persevere(context, inode, FileRange::of_length(last_page, base::kPageBytes),
                     [&] { return context.files.resize(inode, size_bytes, context.caller(mode)); });
}

}  // namespace refault::mount
