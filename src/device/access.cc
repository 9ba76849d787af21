// Byte access to a device's address space, cut at segment borders:
//
//   range          [------------------------)
//   segments  |.........|.........|.........|
//   parts          [----)[--------)[--------)
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "device/device.h"
#include "device/file_names.h"
#include "sys/file.h"

namespace refault::device {

using base::Error;

template <typename Action>
Status Device::for_each_part(DeviceRange range, Action action) const {
    CHECK(range.end() <= capacity_bytes());
    for (std::uint64_t at = range.begin(); at < range.end();) {
        const auto segment = segment_at(at);
        const auto end = std::min(range.end(), segment_range(segment).end());
        auto fd = segment_fd(segment);
        if (!fd) return fd.error();
        if (auto done = action((*fd)->get(), segment, at % segment_bytes_, end - at); !done)
            return done.error().within("device " + name());
        at = end;
    }
    return {};
}

Status Device::read(std::uint64_t offset, std::span<std::uint8_t> into) const {
    return for_each_part(DeviceRange::of_length(offset, into.size()),
                         [&](int fd, SegmentNo, std::uint64_t at, std::uint64_t length) {
                             const auto part = into.first(length);
                             into = into.subspan(length);
                             return sys::read_fully(fd, at, part);
                         });
}

// One moment before the write. Whoever cuts the file between the two is not held off.
static Status expect_whole(int fd, std::uint64_t end) {
    struct stat status;
    if (::fstat(fd, &status) != 0) return base::sys_error("fstat");
    if (static_cast<std::uint64_t>(status.st_size) >= end) return {};
    return Error(base::Code::Io, "the file is shorter than the segment: somebody has cut it");
}

Status Device::write(std::uint64_t offset, std::span<const std::uint8_t> from, DurableWrite row) {
    return for_each_part(
        DeviceRange::of_length(offset, from.size()),
        [&](int fd, SegmentNo segment, std::uint64_t at, std::uint64_t length) -> Status {
            const auto part = from.first(length);
            from = from.subspan(length);
            RETURN_IF_ERROR(expect_whole(fd, at + length));
            return medium_.write(fd, name_of(segment), at, part, row);
        });
}

SegmentState Device::probe_segment(SegmentNo segment) const {
    const SegmentState gone{SegmentHealth::Gone, segment_range(segment)};
    auto by_name = open_segment(segment, Access::Read);
    if (!by_name) return gone;
    struct stat named;
    if (::fstat(by_name->get(), &named) != 0) return gone;
    SharedFd known;
    {
        base::MutexLock lock(mutex_);
        if (const auto at = open_segments_.find(segment); at != open_segments_.end())
            known = at->second;
    }
    struct stat open;
    if (known && (::fstat(known->get(), &open) != 0 || open.st_ino != named.st_ino ||
                  open.st_dev != named.st_dev))
        return gone;
    const auto pages_bytes =
        base::align_down(static_cast<std::uint64_t>(named.st_size), base::kPageBytes);
    const auto end = gone.missing.begin() + std::min(pages_bytes, segment_bytes_);
    return {pages_bytes >= segment_bytes_ ? SegmentHealth::Whole : SegmentHealth::Short,
            DeviceRange(end, gone.missing.end())};
}

bool Device::is_reachable() const {
    struct stat named, open;
    // A directory that was renamed or mounted over is another one, though our descriptor lives on.
    return ::stat(directory_.c_str(), &named) == 0 && ::fstat(directory_fd_.get(), &open) == 0 &&
           named.st_dev == open.st_dev && named.st_ino == open.st_ino &&
           ::faccessat(directory_fd_.get(), kLabelFile, R_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

Status Device::punch(DeviceRange range, DurableWrite row) {
    return for_each_part(range,
                         [&](int fd, SegmentNo segment, std::uint64_t at, std::uint64_t length) {
                             return medium_.punch(fd, name_of(segment), at, length, row);
                         });
}

Status Device::populate(DeviceRange range) {
    return for_each_part(
        range, [&](int fd, SegmentNo segment, std::uint64_t at, std::uint64_t length) {
            return medium_.allocate(fd, name_of(segment), at, length, DurableWrite::FileSpace);
        });
}

Status Device::sync(DeviceRange range, DurableWrite row) {
    if (!needs_sync()) return {};
    return for_each_part(range, [&](int fd, SegmentNo segment, std::uint64_t, std::uint64_t) {
        return medium_.sync(fd, name_of(segment), row);
    });
}

Result<std::optional<DeviceRange>> Device::next_data(DeviceRange range) const {
    CHECK(range.end() <= capacity_bytes());
    for (std::uint64_t at = range.begin(); at < range.end();) {
        const auto segment = segment_at(at);
        const auto base = segment_range(segment).begin();
        const auto end = std::min(range.end(), segment_range(segment).end());
        auto fd = segment_fd(segment);
        if (!fd) return fd.error();
        auto data = sys::next_data((*fd)->get(), at - base, end - base);
        if (!data) return data.error().within("device " + name());
        if (*data) return std::optional(DeviceRange(base + (*data)->begin, base + (*data)->end));
        at = end;
    }
    return std::optional<DeviceRange>();
}

Result<std::uint64_t> copy_range(const Device& from, DeviceRange from_range, Device& to,
                                 std::uint64_t to_offset, std::span<std::uint8_t> buffer) {
    if (from_range.empty()) return 0;
    CHECK(from.segment_at(from_range.begin()) == from.segment_at(from_range.end() - 1));
    CHECK(to.segment_at(to_offset) == to.segment_at(to_offset + from_range.length() - 1));
    auto source = from.segment_fd(from.segment_at(from_range.begin()));
    if (!source) return source.error();
    auto target = to.segment_fd(to.segment_at(to_offset));
    if (!target) return target.error();
    std::uint64_t copied = 0;
    for (auto rest = from_range; !rest.empty();) {
        auto data = from.next_data(rest);
        if (!data) return data.error();
        if (!*data) break;
        const auto from_at = (*data)->begin() % from.segment_bytes();
        const auto to_at =
            (to_offset + ((*data)->begin() - from_range.begin())) % to.segment_bytes();
        RETURN_IF_ERROR(expect_whole((*target)->get(), to_at + (*data)->length()));
        const auto done = to.medium_.copy((*source)->get(), from_at, (*target)->get(),
                                          to.name_of(to.segment_at(to_offset)), to_at,
                                          (*data)->length(), buffer, DurableWrite::FileCopy);
        if (!done) return done.error().within("copy from " + from.name() + " to " + to.name());
        copied += (*data)->length();
        rest = DeviceRange((*data)->end(), rest.end());
    }
    return copied;
}

Result<std::uint64_t> copy_range(const Device& from, DeviceRange from_range, Device& to,
                                 std::uint64_t to_offset) {
    std::vector<std::uint8_t> buffer(
        std::min<std::uint64_t>(kCopyBufferBytes, std::max<std::uint64_t>(from_range.length(), 1)));
    return copy_range(from, from_range, to, to_offset, buffer);
}

Result<std::uint64_t> copy_changed(const Device& from, DeviceRange from_range, Device& to,
                                   std::uint64_t to_offset) {
    constexpr std::uint64_t kStepBytes = 256 * 1024;
    std::vector<std::uint8_t> wanted(kStepBytes), found(kStepBytes);
    std::uint64_t written = 0;
    for (std::uint64_t done = 0; done < from_range.length(); done += kStepBytes) {
        const auto length = std::min(kStepBytes, from_range.length() - done);
        const std::span<std::uint8_t> left(wanted.data(), length), right(found.data(), length);
        RETURN_IF_ERROR(from.read(from_range.begin() + done, left));
        const auto read = to.read(to_offset + done, right);
        if (read && std::equal(left.begin(), left.end(), right.begin())) continue;
        RETURN_IF_ERROR(to.write(to_offset + done, left, DurableWrite::FileCopy));
        written += length;
    }
    return written;
}

}  // namespace refault::device
