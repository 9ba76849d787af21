// Attributes, extended attributes, and how full the pool is.
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "mount/context.h"
#include "mount/file_handle.h"
#include "store/clock.h"

// The C library has no header for these two together with <sys/stat.h>.
#include <linux/xattr.h>

namespace refault::mount {

namespace {

using store::AttributeChange;
using store::now_ns;
using store::Tree;

constexpr std::uint64_t kNameBytesMax = 255;

// The nearest that there is: none is before the epoch, none after what 64 bits hold.
std::uint64_t ns_of(const timespec& time) {
    constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
    if (time.tv_sec < 0) return 0;
    const auto seconds = static_cast<std::uint64_t>(time.tv_sec);
    if (seconds >= UINT64_MAX / kNsPerSecond) return UINT64_MAX;
    return seconds * kNsPerSecond +
           std::min(static_cast<std::uint64_t>(time.tv_nsec), kNsPerSecond - 1);
}

void reply_attributes(fuse_req_t request, const base::Result<store::Attributes>& attributes) {
    if (!attributes) return reply_error(request, attributes.error());
    const auto status = stat_of(*attributes);
    fuse_reply_attr(request, &status, kCacheSeconds);
}

void getattr(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
    reply_attributes(request, context_of(request).tree.stat(inode_of(inode)));
}

AttributeChange change_of(const struct stat& wanted, int to_set) {
    AttributeChange change;
    if (to_set & FUSE_SET_ATTR_MODE) change.mode = wanted.st_mode & store::kModeBits;
    if (to_set & FUSE_SET_ATTR_UID) change.uid = wanted.st_uid;
    if (to_set & FUSE_SET_ATTR_GID) change.gid = wanted.st_gid;
    if (to_set & FUSE_SET_ATTR_ATIME_NOW)
        change.accessed_ns = now_ns();
    else if (to_set & FUSE_SET_ATTR_ATIME)
        change.accessed_ns = ns_of(wanted.st_atim);
    if (to_set & FUSE_SET_ATTR_MTIME_NOW)
        change.modified_ns = now_ns();
    else if (to_set & FUSE_SET_ATTR_MTIME)
        change.modified_ns = ns_of(wanted.st_mtim);
    if (to_set & FUSE_SET_ATTR_CTIME) change.changed_ns = ns_of(wanted.st_ctim);
    return change;
}

base::Status set_size(Context& context, base::InodeNo inode, std::uint64_t size_bytes,
                      const fuse_file_info* info) {
    if (info != nullptr)
        return resize_persevering(context, inode, FileHandle(info).mode(), size_bytes);
    const auto mode = context.opens.open(inode);
    if (!mode) return mode.error();
    const auto sized = resize_persevering(context, inode, *mode, size_bytes);
    context.opens.abandon(inode, *mode);
    return sized;
}

void setattr(fuse_req_t request, fuse_ino_t number, struct stat* wanted, int to_set,
             fuse_file_info* info) {
    auto& context = context_of(request);
    const auto inode = inode_of(number);
    if (to_set & FUSE_SET_ATTR_SIZE) {
        const auto sized =
            set_size(context, inode, static_cast<std::uint64_t>(wanted->st_size), info);
        if (!sized) return reply_error(request, sized.error());
    }
    // A new size or owner says so; before a write nothing is to be set but this, and the kernel
    // keeps the mode that it is answered.
    if (to_set == 0 || (to_set & FUSE_SET_ATTR_KILL_SUID))
        if (const auto killed = context.tree.kill_privileges(inode); !killed)
            return reply_error(request, killed.error());
    constexpr int kOthers = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID |
                            FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME |
                            FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;
    if (to_set & kOthers)
        reply_attributes(request, context.tree.change(inode, change_of(*wanted, to_set)));
    else
        reply_attributes(request, context.tree.stat(inode));
}

// Access lists would have to be kept in step with the permission bits; they are refused, not stored
// without effect.
bool is_access_list(const char* name) {
    return std::string_view(name).starts_with("system.posix_acl_");
}

void setxattr(fuse_req_t request, fuse_ino_t inode, const char* name, const char* value,
              std::size_t size, int flags) {
    if (is_access_list(name)) {
        fuse_reply_err(request, EOPNOTSUPP);
        return;
    }
    const auto mode = flags & XATTR_CREATE    ? Tree::SetMode::Create
                      : flags & XATTR_REPLACE ? Tree::SetMode::Replace
                                              : Tree::SetMode::Any;
    reply_status(request, context_of(request).tree.set_attribute(
                              inode_of(inode), name,
                              {reinterpret_cast<const std::uint8_t*>(value), size}, mode));
}

// `size` 0 asks how long it is.
void reply_bytes(fuse_req_t request, const void* bytes, std::size_t length, std::size_t size) {
    if (size == 0)
        fuse_reply_xattr(request, length);
    else if (length > size)
        fuse_reply_err(request, ERANGE);
    else
        fuse_reply_buf(request, static_cast<const char*>(bytes), length);
}

void getxattr(fuse_req_t request, fuse_ino_t inode, const char* name, std::size_t size) {
    if (is_access_list(name)) {
        fuse_reply_err(request, EOPNOTSUPP);
        return;
    }
    const auto value = context_of(request).tree.attribute(inode_of(inode), name);
    if (!value) return reply_error(request, value.error());
    reply_bytes(request, value->data(), value->size(), size);
}

void listxattr(fuse_req_t request, fuse_ino_t inode, std::size_t size) {
    const auto names = context_of(request).tree.attribute_names(inode_of(inode));
    if (!names) return reply_error(request, names.error());
    std::string list;
    for (const auto& name : *names) list.append(name).push_back('\0');
    reply_bytes(request, list.data(), list.size(), size);
}

void removexattr(fuse_req_t request, fuse_ino_t inode, const char* name) {
    reply_status(request, context_of(request).tree.remove_attribute(inode_of(inode), name));
}

void statfs(fuse_req_t request, fuse_ino_t) {
    const auto usage = context_of(request).tree.usage();
    struct statvfs status {};
    status.f_bsize = base::kPageBytes;
    status.f_frsize = base::kPageBytes;
    status.f_blocks = usage.capacity_bytes / base::kPageBytes;
    status.f_bfree = status.f_bavail = usage.free_bytes / base::kPageBytes;
    status.f_files = usage.inodes;
    // Inodes come from the same memory as everything else: there is no limit of their own.
    status.f_ffree = status.f_favail = UINT32_MAX;
    status.f_files += status.f_ffree;
    status.f_namemax = kNameBytesMax;
    fuse_reply_statfs(request, &status);
}

}  // namespace

void add_attribute_operations(fuse_lowlevel_ops& operations) {
    operations.getattr = getattr;
    operations.setattr = setattr;
    operations.setxattr = setxattr;
    operations.getxattr = getxattr;
    operations.listxattr = listxattr;
    operations.removexattr = removexattr;
    operations.statfs = statfs;
}

}  // namespace refault::mount
