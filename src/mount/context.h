// What the operations of a mount work on, and the few things all of them need: which inode is
// meant, how an error becomes the errno that a program sees, how attributes become a struct stat.
// The operations run on the threads of the mount (mount.h), several at once; each ends its request
// with exactly one reply, and waits for nothing without a limit.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/result.h"
#include "mount/kernel_channel.h"
#include "mount/listings.h"
#include "mount/notifier.h"
#include "mount/open_inodes.h"
#include "mount/options.h"
#include "mount/remembered.h"
#include "mount/writes_under_way.h"
#include "session/file_service.h"
#include "store/store.h"
#include "store/tree.h"

namespace refault::mount {

struct Context {
    store::Store& store;
    store::Tree& tree;
    session::FileService& files;
    OpenInodes& opens;
    Remembered& remembered;
    Listings& listings;
    const MountOptions& options;
    KernelChannel& channel;
    WritesUnderWay& writes;
    Notifier* notifier = nullptr;  // there before the first request

    // Where clients may map the file directly it has no holes.
    session::Caller caller(OpenMode mode) const {
        return {.is_mount = true,
                .allows_holes = mode != OpenMode::Direct,
                .deadline = std::chrono::steady_clock::now() + options.patience};
    }
};

inline Context& context_of(fuse_req_t request) {
    return *static_cast<Context*>(fuse_req_userdata(request));
}
inline base::InodeNo inode_of(fuse_ino_t inode) {
    return base::InodeNo(inode);
}

// A device that fails takes a moment to be recovered from; what has another copy, or can be written
// as a whole, is there again then. What is known to be lost is not waited for.
template <typename Action>
auto persevere(const Context& context, base::InodeNo inode, base::FileRange range,
               const Action& action) {
    constexpr std::chrono::milliseconds kLimit{2000}, kInterval{10};
    const auto limit = std::min(kLimit, context.options.patience);
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
        auto done = action();
        if (done || done.error().code() != base::Code::Io) return done;
        // A whole page that was lost meanwhile can be written: once more, not again and again.
        if (std::chrono::steady_clock::now() > deadline) return done;
        if (!context.store.lost(inode, range).empty()) return action();
        std::this_thread::sleep_for(kInterval);
    }
}

// The kernel's numbers of bytes are signed (loff_t); what is none is refused, not reckoned with.
base::Status check_offset(std::uint64_t offset);

base::Result<std::size_t> read_persevering(const Context& context, base::InodeNo inode,
                                           OpenMode mode, std::uint64_t offset,
                                           std::span<std::uint8_t> into);
base::Result<std::size_t> write_persevering(const Context& context, base::InodeNo inode,
                                            OpenMode mode, std::uint64_t offset,
                                            std::span<const std::uint8_t> from);
base::Status resize_persevering(const Context& context, base::InodeNo inode, OpenMode mode,
                                std::uint64_t size_bytes);

// How long the kernel may keep names and attributes: what others change is taken from it.
inline constexpr double kCacheSeconds = 86'400;

int errno_for_program(const base::Error& error);
struct stat stat_of(const store::Attributes& attributes);

// What the process that asks makes: it belongs to it.
store::NewNode node_of(fuse_req_t request, store::FileType type, mode_t mode);

void reply_error(fuse_req_t request, const base::Error& error);
void reply_status(fuse_req_t request, const base::Status& status);
// Of an inode that the tree has remembered once for this reply.
fuse_entry_param entry_of(const store::Attributes& attributes);
void reply_entry(fuse_req_t request, const base::Result<store::Attributes>& attributes);

void add_name_operations(fuse_lowlevel_ops& operations);
void add_directory_operations(fuse_lowlevel_ops& operations);
void add_attribute_operations(fuse_lowlevel_ops& operations);
void add_file_operations(fuse_lowlevel_ops& operations);
void add_space_operations(fuse_lowlevel_ops& operations);
// All of them. A session that is made with these has a Context as its user data.
fuse_lowlevel_ops operations();

}  // namespace refault::mount
