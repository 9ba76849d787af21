// Names: finding, making, linking, removing, renaming.
#include <linux/fs.h>
#include <sys/stat.h>

#include <cerrno>

#include "mount/context.h"

namespace refault::mount {

namespace {

using store::FileType;
using store::NewNode;
using store::RenameMode;

void lookup(fuse_req_t request, fuse_ino_t directory, const char* name) {
    auto found = context_of(request).tree.remember(inode_of(directory), name);
    if (!found && found.error().sys_errno() == ENOENT) {
        // Also that there is no such name is kept: inode 0.
        fuse_entry_param none{};
        none.entry_timeout = kCacheSeconds;
        fuse_reply_entry(request, &none);
        return;
    }
    reply_entry(request, found);
}

void forget_one(Context& context, base::InodeNo inode, std::uint64_t count) {
    if (context.remembered.forget(inode, count)) context.opens.forgotten(inode);
}

void forget(fuse_req_t request, fuse_ino_t inode, std::uint64_t count) {
    forget_one(context_of(request), inode_of(inode), count);
    fuse_reply_none(request);
}

void forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets) {
    for (std::size_t i = 0; i < count; ++i)
        forget_one(context_of(request), inode_of(forgets[i].ino), forgets[i].nlookup);
    fuse_reply_none(request);
}

void mknod(fuse_req_t request, fuse_ino_t directory, const char* name, mode_t mode, dev_t device) {
    FileType type = FileType::Regular;
    switch (mode & S_IFMT) {
        case 0:
        case S_IFREG:
            break;
        case S_IFIFO:
            type = FileType::Fifo;
            break;
        case S_IFSOCK:
            type = FileType::Socket;
            break;
        case S_IFCHR:
            type = FileType::CharDevice;
            break;
        case S_IFBLK:
            type = FileType::BlockDevice;
            break;
        default:
            fuse_reply_err(request, EINVAL);
            return;
    }
    auto node = node_of(request, type, mode);
    node.device = device;
    reply_entry(request, context_of(request).tree.make(inode_of(directory), name, node));
}

void mkdir(fuse_req_t request, fuse_ino_t directory, const char* name, mode_t mode) {
    const auto node = node_of(request, FileType::Directory, mode);
    reply_entry(request, context_of(request).tree.make(inode_of(directory), name, node));
}

void symlink(fuse_req_t request, const char* target, fuse_ino_t directory, const char* name) {
    auto node = node_of(request, FileType::Symlink, 0777);
    node.target = target;
    reply_entry(request, context_of(request).tree.make(inode_of(directory), name, node));
}

void readlink(fuse_req_t request, fuse_ino_t inode) {
    const auto target = context_of(request).tree.target(inode_of(inode));
    if (!target) return reply_error(request, target.error());
    fuse_reply_readlink(request, target->c_str());
}

void link(fuse_req_t request, fuse_ino_t inode, fuse_ino_t directory, const char* name) {
    reply_entry(request, context_of(request).tree.link(inode_of(inode), inode_of(directory), name));
}

void unlink(fuse_req_t request, fuse_ino_t directory, const char* name) {
    reply_status(request, context_of(request).tree.unlink(inode_of(directory), name));
}

void rmdir(fuse_req_t request, fuse_ino_t directory, const char* name) {
    reply_status(request, context_of(request).tree.remove_directory(inode_of(directory), name));
}

void rename(fuse_req_t request, fuse_ino_t from_directory, const char* from,
            fuse_ino_t to_directory, const char* to, unsigned flags) {
    RenameMode mode = RenameMode::Replace;
    if (flags == RENAME_NOREPLACE) {
        mode = RenameMode::NoReplace;
    } else if (flags == RENAME_EXCHANGE) {
        mode = RenameMode::Exchange;
    } else if (flags != 0) {
        fuse_reply_err(request, EINVAL);
        return;
    }
    reply_status(request, context_of(request).tree.rename(inode_of(from_directory), from,
                                                          inode_of(to_directory), to, mode));
}

}  // namespace

void add_name_operations(fuse_lowlevel_ops& operations) {
    operations.lookup = lookup;
    operations.forget = forget;
    operations.forget_multi = forget_multi;
    operations.mknod = mknod;
    operations.mkdir = mkdir;
    operations.symlink = symlink;
    operations.readlink = readlink;
    operations.link = link;
    operations.unlink = unlink;
    operations.rmdir = rmdir;
    operations.rename = rename;
}

}  // namespace refault::mount
