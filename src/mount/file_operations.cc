// Opening, reading, writing, and making durable.
#include <fcntl.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <span>

#include "mount/context.h"
#include "mount/file_handle.h"

namespace refault::mount {

namespace {

using base::FileRange;
using base::InodeNo;

base::Status sync(Context& context, InodeNo inode, FileRange range) {
    return persevere(context, inode, range, [&]() -> base::Status {
        const auto deadline = std::chrono::steady_clock::now() + context.options.patience;
        const auto layout =
            context.store.lock_layout_until(inode, store::Store::LayoutUse::Read, deadline);
        if (!layout) return layout.error();
        return context.store.sync(inode, range);
    });
}

// The store has counted the open.
void fill(fuse_file_info& info, OpenMode mode) {
    info.fh = FileHandle(mode).bits();
    info.direct_io = mode == OpenMode::Direct;
    // What others change is taken from the cache.
    info.keep_cache = mode == OpenMode::Cached;
}

// Where the flags say so. The kernel may have cached the mode.
base::Status kill_privileges(Context& context, InodeNo inode, int flags) {
    if ((flags & kKillsPrivileges) == 0) return {};
    const auto killed = context.tree.kill_privileges(inode);
    if (!killed) return killed.error();
    if (*killed) context.files.attributes_changed(inode);
    return {};
}

void open(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
    auto& context = context_of(request);
    const auto inode = inode_of(number);
    const auto mode = context.opens.open(inode);
    if (!mode) return reply_error(request, mode.error());
    if (info->flags & O_TRUNC) {
        auto cut = resize_persevering(context, inode, *mode, 0);
        if (cut) cut = kill_privileges(context, inode, info->flags);
        if (!cut) {
            context.opens.abandon(inode, *mode);
            return reply_error(request, cut.error());
        }
    }
    fill(*info, *mode);
    if (fuse_reply_open(request, info) != 0) context.opens.abandon(inode, *mode);
}

void create(fuse_req_t request, fuse_ino_t directory, const char* name, mode_t mode_bits,
            fuse_file_info* info) {
    auto& context = context_of(request);
    const auto node = node_of(request, store::FileType::Regular, mode_bits);
    const auto made = std::string_view(name) == kNoName
                          ? context.tree.make_unnamed(inode_of(directory), node)
                          : context.tree.make(inode_of(directory), name, node);
    if (!made) return reply_error(request, made.error());
    context.remembered.add(made->inode);
    const auto mode = context.opens.open(made->inode);
    if (!mode) {
        context.remembered.forget(made->inode, 1);
        return reply_error(request, mode.error());
    }
    fill(*info, *mode);
    const auto entry = entry_of(*made);
    if (fuse_reply_create(request, &entry, info) != 0) {
        context.opens.abandon(made->inode, *mode);
        context.remembered.forget(made->inode, 1);
    }
}

// The thread's buffer is kept: fresh memory would be cleared page by page for each request. At the
// beginning of a page, as the kernel takes it from there page by page.
std::span<std::uint8_t> buffer_of_thread(std::size_t size) {
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    thread_local std::unique_ptr<void, Free> buffer;
    thread_local std::size_t length = 0;
    if (length < size) {
        length = base::align_up(size, base::kPageBytes);
        buffer.reset(std::aligned_alloc(base::kPageBytes, length));
        CHECK(buffer != nullptr);
    }
    return {static_cast<std::uint8_t*>(buffer.get()), size};
}

void read(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset,
          fuse_file_info* info) {
    auto& context = context_of(request);
    const auto into = buffer_of_thread(size);
    const auto begin = static_cast<std::uint64_t>(offset);
    const auto got =
        read_persevering(context, inode_of(inode), FileHandle(info).mode(), begin, into);
    if (!got) return reply_error(request, got.error());
    // Once a pass is enough.
    if (begin == 0) context.tree.note_accessed(inode_of(inode));
    fuse_reply_buf(request, reinterpret_cast<const char*>(into.data()), *got);
}

void write(fuse_req_t request, fuse_ino_t number, const char* bytes, std::size_t size, off_t offset,
           fuse_file_info* info) {
    auto& context = context_of(request);
    const auto inode = inode_of(number);
    const auto begin = static_cast<std::uint64_t>(offset);
    const std::span from(reinterpret_cast<const std::uint8_t*>(bytes), size);
    const auto written = write_persevering(context, inode, FileHandle(info).mode(), begin, from);
    if (!written) return reply_error(request, written.error());
    if (const auto killed = kill_privileges(context, inode, info->flags); !killed)
        return reply_error(request, killed.error());
    if (info->flags & (O_SYNC | O_DSYNC)) {
        const auto synced = sync(context, inode, FileRange::of_length(begin, *written));
        if (!synced) return reply_error(request, synced.error());
    }
    fuse_reply_write(request, *written);
}

// The kernel has sent its dirty pages before it asks for these two.
void fsync(fuse_req_t request, fuse_ino_t inode, int, fuse_file_info*) {
    reply_status(request, sync(context_of(request), inode_of(inode), FileRange(0, UINT64_MAX)));
}

void release(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info) {
    context_of(request).opens.close(inode_of(inode), FileHandle(info).mode());
    fuse_reply_err(request, 0);
}

}  // namespace

void add_file_operations(fuse_lowlevel_ops& operations) {
    operations.open = open;
    operations.create = create;
    operations.read = read;
    operations.write = write;
    operations.fsync = fsync;
    operations.release = release;
}

}  // namespace refault::mount
