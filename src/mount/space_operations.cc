// Holes and the space of files: fallocate, SEEK_DATA and SEEK_HOLE, copies inside the pool.
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "mount/context.h"
#include "mount/file_handle.h"

namespace refault::mount {

namespace {

using base::FileRange;

constexpr std::uint64_t kCopyStepBytes = 1u << 20;
// Of one request. The reply says how much was copied in 32 bits, whatever was asked for
// (linux/fuse.h), and meanwhile the program cannot be ended; it asks for the rest.
constexpr std::uint64_t kCopyBytesMax = 64u << 20;

void fallocate(fuse_req_t request, fuse_ino_t number, int mode, off_t offset, off_t length,
               fuse_file_info* info) {
    auto& context = context_of(request);
    const auto inode = inode_of(number);
    const auto begin = static_cast<std::uint64_t>(offset);
    const auto bytes = static_cast<std::uint64_t>(length);
    for (const auto part : {begin, bytes})
        if (const auto checked = check_offset(part); !checked)
            return reply_error(request, checked.error());
    const auto open_mode = FileHandle(info).mode();
    const auto range = FileRange::of_length(begin, bytes);
    const bool keeps_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
    const auto allocate = [&] {
        return persevere(context, inode, range, [&] {
            return context.files.allocate(inode, range, keeps_size, context.caller(open_mode));
        });
    };
    // The ends of the range are parts of pages, which are written.
    const auto clear = [&] {
        return persevere(context, inode, range, [&] {
            return context.files.clear(inode, range, context.caller(open_mode));
        });
    };
    switch (mode & ~FALLOC_FL_KEEP_SIZE) {
        case 0:
            return reply_status(request, allocate());
        case FALLOC_FL_PUNCH_HOLE:
            return reply_status(request, clear());
        case FALLOC_FL_ZERO_RANGE: {
            const auto zeroed = clear();
            return reply_status(request, zeroed ? allocate() : zeroed);
        }
        default:
            fuse_reply_err(request, EOPNOTSUPP);
    }
}

void lseek(fuse_req_t request, fuse_ino_t number, off_t offset, int whence, fuse_file_info*) {
    auto& context = context_of(request);
    const auto inode = inode_of(number);
    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        fuse_reply_err(request, EINVAL);
        return;
    }
    const auto from = static_cast<std::uint64_t>(offset);
    const auto found = whence == SEEK_DATA ? context.store.next_data(inode, from)
                                           : context.store.next_hole(inode, from);
    if (!found) return reply_error(request, found.error());
    fuse_reply_lseek(request, static_cast<off_t>(*found));
}

// The kernel has written back what it had cached of both.
void copy_file_range(fuse_req_t request, fuse_ino_t from, off_t from_offset,
                     fuse_file_info* from_info, fuse_ino_t to, off_t to_offset,
                     fuse_file_info* to_info, std::size_t length, int) {
    auto& context = context_of(request);
    length = std::min<std::uint64_t>(length, kCopyBytesMax);
    for (const auto offset : {from_offset, to_offset})
        if (const auto checked = check_offset(static_cast<std::uint64_t>(offset)); !checked)
            return reply_error(request, checked.error());
    // The kernel refuses it as well: each step would copy what the one before has written, and none
    // would reach the end of the file.
    const auto distance = static_cast<std::uint64_t>(
        from_offset < to_offset ? to_offset - from_offset : from_offset - to_offset);
    if (from == to && distance < length) {
        fuse_reply_err(request, EINVAL);
        return;
    }
    std::vector<std::uint8_t> buffer(std::min<std::uint64_t>(length, kCopyStepBytes));
    std::size_t copied = 0;
    while (copied < length) {
        const auto step = std::span(buffer).first(std::min(buffer.size(), length - copied));
        const auto got = read_persevering(context, inode_of(from), FileHandle(from_info).mode(),
                                          static_cast<std::uint64_t>(from_offset) + copied, step);
        auto put = got;
        if (got && *got > 0)
            put =
                write_persevering(context, inode_of(to), FileHandle(to_info).mode(),
                                  static_cast<std::uint64_t>(to_offset) + copied, step.first(*got));
        // What was copied before the error counts.
        if (!put && copied == 0) return reply_error(request, put.error());
        if (!put || *put == 0) break;
        copied += *put;
    }
    fuse_reply_write(request, copied);
}

}  // namespace

void add_space_operations(fuse_lowlevel_ops& operations) {
    operations.fallocate = fallocate;
    operations.lseek = lseek;
    operations.copy_file_range = copy_file_range;
}

}  // namespace refault::mount
