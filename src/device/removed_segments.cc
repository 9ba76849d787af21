// Segments' files on their way out:
//
//   seg-00007 --cut to nothing--> nobody else has it open or mapped --> removed
//                                 somebody has --> seg-00007.removed-INODE --he lets go--> removed
//
// What has a name is known to the next daemon as well: without one, a descriptor in flight would be
// in nobody's table. Whether somebody has a file is asked of the kernel, by a write lease
// (fcntl(2): it is granted only where no other open file description is left, a mapping's
// included).
#include <fcntl.h>
#include <sys/stat.h>

#include <utility>

#include "device/device.h"
#include "device/file_names.h"
#include "device/trust.h"
#include "sys/file.h"

namespace refault::device {

using base::Code;
using base::MutexLock;
using base::sys_error;

namespace {

constexpr std::string_view kRemoved = ".removed-";

}  // namespace

bool is_removed_name(std::string_view name) {
    const auto at = name.find(kRemoved);
    return at != name.npos && segment_of_path(name.substr(0, at)).has_value();
}

Status Device::release_segment(SegmentNo segment, DurableWrite row) {
    auto found = remove_file(segment, row);
    if (!found) return found.error();
    if (!*found) note_uncounted();
    return {};
}

void Device::note_uncounted() const {
    MutexLock lock(mutex_);
    is_count_complete_ = false;
}

Result<bool> Device::remove_file(SegmentNo segment, DurableWrite row) {
    const std::string file = segment_name(segment);
    auto fd = sys::open_at(directory_fd_.get(), file, O_RDWR | O_NONBLOCK);
    if (!fd && fd.error().code() == Code::NotFound) {
        // Perhaps somebody else has taken the name away; who maps the file still has its pages.
        cut_open_file(segment, row);
        forget_fd(segment);
        return false;
    }
    if (!fd) return fd.error().within("device " + name());
    // Truncation, not the unlink, is what takes the pages away from who has them mapped.
    if (auto cut = medium_.set_size(fd->get(), file, 0, row); !cut)
        return cut.error().within("device " + name() + ": " + file);
    forget_fd(segment);  // ours would count
    const auto is_held =
        is_private_mount_ ? std::optional(false) : sys::has_other_opener(fd->get());
    if (is_held.value_or(false)) {
        RETURN_IF_ERROR(set_aside(std::move(*fd), file, row));
    } else {
        RETURN_IF_ERROR(medium_.remove(file, row));
    }
    if (!is_held) note_uncounted();
    // After the name: a reader that came in between could otherwise put the old file's descriptor
    // back, and what is written to the next file of this number would go nowhere.
    forget_fd(segment);
    return true;
}

Status Device::set_aside(UniqueFd fd, const std::string& file, DurableWrite row) const {
    struct stat status;
    if (::fstat(fd.get(), &status) != 0) return sys_error(file);
    auto aside = file + std::string(kRemoved) + std::to_string(status.st_ino);
    RETURN_IF_ERROR(medium_.rename(file, aside, row));
    (void)held_segments();  // drops those that nobody has any more
    MutexLock lock(mutex_);
    held_.push_back({std::move(fd), std::move(aside)});
    return {};
}

Status Device::adopt_removed() {
    auto names = sys::list_names(directory_fd_.get());
    if (!names) return names.error().within(directory_);
    for (const auto& file : *names) {
        if (!is_removed_name(file)) continue;
        auto fd = sys::open_at(directory_fd_.get(), file, O_RDWR | O_NONBLOCK);
        if (!fd) return fd.error().within("device " + name());
        RETURN_IF_ERROR(check_file(fd->get(), directory_ + "/" + file));
        RETURN_IF_ERROR(medium_.set_size(fd->get(), file, 0, DurableWrite::SegmentRemove));
        MutexLock lock(mutex_);
        held_.push_back({std::move(*fd), file});
    }
    (void)held_segments();
    return {};
}

Device::HeldSegments Device::held_segments() const {
    MutexLock lock(mutex_);
    std::erase_if(held_, [this](const HeldFile& file) {
        if (sys::has_other_opener(file.fd.get()).value_or(true)) return false;
        base::discard(medium_.remove(file.name, DurableWrite::SegmentRemove),
                      "an empty file that the next opening removes");
        return true;
    });
    return {held_.size(), is_count_complete_};
}

void Device::cut_open_file(SegmentNo segment, DurableWrite row) const {
    SharedFd known;
    {
        MutexLock lock(mutex_);
        if (const auto at = open_segments_.find(segment); at != open_segments_.end())
            known = at->second;
    }
    if (known)
        base::discard(medium_.set_size(known->get(), segment_name(segment), 0, row),
                      "memory that does not answer any more is nobody's");
}

std::optional<std::uint64_t> Device::count_held_files() const {
    auto segments = list_segments();
    if (!segments) return std::nullopt;
    std::uint64_t held = 0;
    for (const auto segment : *segments) {
        forget_fd(segment);  // ours would count
        auto fd = sys::open_at(directory_fd_.get(), segment_name(segment), O_RDWR | O_NONBLOCK);
        if (!fd) return std::nullopt;
        const auto is_held = sys::has_other_opener(fd->get());
        if (!is_held) return std::nullopt;
        if (*is_held) ++held;
    }
    return held;
}

}  // namespace refault::device
