// Making, opening and labelling devices, and their segments' files.
#include "device/device.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>

#include "base/units.h"
#include "device/file_names.h"
#include "device/ram_home.h"
#include "device/trust.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace refault::device {

using base::Code;
using base::Error;
using base::MutexLock;
using base::sys_error;

namespace {

constexpr std::size_t kLabelBytesMax = 1 << 20;
constexpr std::uint32_t kSegmentsMin = 4;
constexpr std::size_t kOpenSegmentsMax = 128;

}  // namespace

std::string segment_name(SegmentNo segment) {
    char name[16];
    std::snprintf(name, sizeof name, "seg-%05u", segment.raw());
    return name;
}

std::optional<SegmentNo> segment_of_path(std::string_view path) {
    const auto name = path.substr(path.rfind('/') + 1);
    if (!name.starts_with("seg-")) return std::nullopt;
    std::uint32_t number = 0;
    const auto digits = name.substr(4);
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (parsed.ec != std::errc{} || segment_name(SegmentNo(number)) != name) return std::nullopt;
    return SegmentNo(number);
}

Device::Device(DeviceSpec spec, std::string directory, MediumTrace trace)
    : spec_(std::move(spec)), directory_(std::move(directory)), medium_(std::move(trace)) {}

Device::~Device() {
    take_back_lock();
    if (owns_directory_) remove_ram_home({directory_, is_private_mount_});
}

Result<std::unique_ptr<Device>> Device::create(const DeviceSpec& spec, const Uuid& pool,
                                               MediumTrace trace) {
    std::unique_ptr<Device> device(new Device(spec, spec.path, std::move(trace)));
    RETURN_IF_ERROR(device->check_spec());
    if (spec.kind == DeviceKind::Ram) {
        RETURN_IF_ERROR(device->choose_geometry());
        auto home = make_ram_home(spec, device->capacity_bytes());
        if (!home) return home.error().within("device " + spec.name);
        device->directory_ = home->directory;
        device->is_private_mount_ = home->is_private_mount;
        device->owns_directory_ = true;
    }
    RETURN_IF_ERROR(device->open_directory());
    if (spec.kind == DeviceKind::Ram) return device;
    RETURN_IF_ERROR(device->choose_geometry());
    RETURN_IF_ERROR(device->expect_unused(pool));
    RETURN_IF_ERROR(device->adopt_removed());
    return device;
}

Status Device::expect_unused(const Uuid& pool) const {
    auto label = read_label();
    if (label && label->state == LabelState::Member)
        return Error(Code::Exists,
                     spec_.path + " belongs to " +
                         (label->pool == pool ? "this pool" : "pool " + label->pool.to_string()) +
                         " already; open that pool, or add it with --yes to wipe it first");
    if (!label && label.error().code() != Code::NotFound) return label.error().within(spec_.path);
    auto segments = list_segments();
    if (!segments) return segments.error();
    if (!segments->empty())
        return Error(Code::Exists, spec_.path + " holds segment files; remove them to use it anew");
    return expect_nothing_foreign();
}

Result<std::unique_ptr<Device>> Device::open(const DeviceSpec& spec, MediumTrace trace) {
    if (spec.kind != DeviceKind::Dir)
        return Error(Code::Invalid,
                     "a ram: device does not outlive its daemon, so it cannot be opened again");
    std::unique_ptr<Device> device(new Device(spec, spec.path, std::move(trace)));
    RETURN_IF_ERROR(device->open_directory());
    auto label = device->read_label();
    if (!label && label.error().code() == Code::NotFound)
        return Error(Code::NotFound,
                     spec.path +
                         " has no label, so it is no device of a pool; name another "
                         "directory, or add this one as a new device");
    if (!label) return label.error().within(spec.path);
    if (label->state == LabelState::Removed)
        return Error(Code::NotFound,
                     spec.path + " was pulled from its pool; add it as a new device");
    device->take_geometry(*label);
    RETURN_IF_ERROR(device->adopt_removed());
    return device;
}

void Device::take_geometry(const Label& label) {
    segment_bytes_ = label.segment_bytes;
    segment_count_ = label.segment_count;
    spec_.name = label.name;
}

Result<Label> Device::peek_label(const DeviceSpec& spec) {
    if (spec.kind != DeviceKind::Dir)
        return Error(Code::NotFound, "a ram: device has no label of an earlier life");
    Device device(spec, spec.path);
    auto directory = sys::open_directory(spec.path);
    if (!directory) return directory.error();
    RETURN_IF_ERROR(check_directory(directory->get(), spec.path));
    RETURN_IF_ERROR(check_files(directory->get(), spec.path));
    device.directory_fd_ = std::move(*directory);
    return device.read_label();
}

Status Device::wipe(const DeviceSpec& spec, MediumTrace trace) {
    if (spec.kind != DeviceKind::Dir) return Error(Code::Invalid, "only dir: devices are wiped");
    Device device(spec, spec.path, std::move(trace));
    RETURN_IF_ERROR(device.open_directory());
    auto segments = device.list_segments();
    if (!segments) return segments.error();
    RETURN_IF_ERROR(device.adopt_removed());
    for (const auto segment : *segments) RETURN_IF_ERROR(device.release_segment(segment));
    return device.remove_label();
}

Status Device::check_spec() const {
    if (!is_device_name(spec_.name))
        return Error(Code::Invalid, "'" + spec_.name +
                                        "' is no name for a device; use 1 to 63 letters, digits, "
                                        "'.', '_' or '-', and neither '.' nor '-' first");
    if (spec_.kind == DeviceKind::Ram && spec_.size_bytes == 0)
        return Error(Code::Invalid, "device " + name() + " needs a size; write ram:SIZE");
    if (spec_.segment_bytes && !is_segment_size(*spec_.segment_bytes))
        return Error(Code::Invalid,
                     "device " + name() + ": a segment is a power of two from 4K to 1G");
    return {};
}

Status Device::open_directory() {
    auto fd = sys::open_directory(directory_);
    if (!fd && (fd.error().sys_errno() == ENOTDIR || fd.error().sys_errno() == ELOOP))
        return Error(Code::Invalid,
                     directory_ + " is a file or a symbolic link; name a directory itself",
                     ENOTDIR);
    if (!fd) return fd.error();
    directory_fd_ = std::move(*fd);
    RETURN_IF_ERROR(check_directory(directory_fd_.get(), directory_));
    RETURN_IF_ERROR(check_files(directory_fd_.get(), directory_));
    medium_.set_directory(directory_fd_.get());
    auto kind = sys::filesystem_kind(directory_fd_.get());
    if (!kind) return kind.error().within(directory_);
    if (*kind == sys::FilesystemKind::Hugetlbfs)
        return Error(Code::NotSupported,
                     directory_ +
                         " is a hugetlbfs, whose files take no write(2); use a tmpfs "
                         "mounted with huge=always");
    memory_kind_ = *kind == sys::FilesystemKind::Tmpfs ? MemoryKind::Shmem : MemoryKind::Other;
    return lock_fd_ ? Status() : take_lock();
}

// A slip like dir:/dev or dir:/home must not become a device.
Status Device::expect_nothing_foreign() const {
    auto names = sys::list_names(directory_fd_.get());
    if (!names) return names.error().within(directory_);
    for (const auto& name : *names)
        if (name != "lost+found" && name != kLockFile && !name.starts_with(kLabelFile) &&
            !is_removed_name(name))
            return Error(Code::Exists, directory_ + " is not empty (it has '" + name +
                                           "'); name an empty directory");
    return {};
}

Status Device::take_lock() {
    struct stat status {};
    has_made_lock_file_ =
        ::fstatat(directory_fd_.get(), kLockFile, &status, AT_SYMLINK_NOFOLLOW) != 0;
    auto lock = medium_.create(kLockFile, O_RDWR | O_NONBLOCK, DurableWrite::Lock);
    if (!lock) return lock.error().within(directory_);
    if (::flock(lock->get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) return sys_error("lock " + directory_);
        return Error(Code::Busy, directory_ + " is in use by another daemon; stop that one first");
    }
    // One that takes back its lock may have removed the file that was opened here.
    if (::fstat(lock->get(), &status) != 0 || status.st_nlink == 0)
        return Error(Code::Busy, directory_ + " was in use a moment ago; try again");
    lock_fd_ = std::move(*lock);
    return {};
}

void Device::take_back_lock() {
    struct stat status {};
    if (!lock_fd_ || !has_made_lock_file_ || owns_directory_ ||
        ::fstatat(directory_fd_.get(), kLabelFile, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return;
    // Not by medium_: who follows its trace may be gone before the device is.
    Medium medium;
    medium.set_directory(directory_fd_.get());
    base::discard(medium.remove(kLockFile, DurableWrite::Lock), "an empty file is no harm");
}

Status Device::choose_geometry() {
    std::uint64_t capacity = spec_.size_bytes;
    if (capacity == 0) {
        auto free_bytes = host_free_bytes();
        if (!free_bytes) return free_bytes.error();
        capacity = *free_bytes - std::min(*free_bytes, kLabelRoomBytes);
    }
    segment_bytes_ = spec_.segment_bytes ? *spec_.segment_bytes : choose_segment_bytes(capacity);
    const std::uint64_t count = capacity / segment_bytes_;
    if (count < kSegmentsMin)
        return Error(Code::Invalid, "device " + name() + " is too small with " +
                                        base::format_size(capacity) + "; give it at least " +
                                        base::format_size(kSegmentsMin * segment_bytes_));
    if (count > UINT32_MAX)
        return Error(Code::Invalid, "device " + name() +
                                        " is too large for its segment size; give it larger ones");
    segment_count_ = static_cast<std::uint32_t>(count);
    return {};
}

Result<std::uint64_t> Device::host_free_bytes() const {
    struct statvfs status;
    if (::fstatvfs(directory_fd_.get(), &status) != 0) return sys_error("statvfs " + directory_);
    return std::uint64_t{status.f_bavail} * status.f_frsize;
}

Status Device::create_segment(SegmentNo segment, DurableWrite row) {
    CHECK(segment.raw() < segment_count_);
    const std::string file = segment_name(segment);
    auto fd = medium_.create(file, O_RDWR | O_EXCL, row);
    if (!fd) return fd.error().within("device " + name());
    auto made = medium_.set_size(fd->get(), file, segment_bytes_, row);
    // On a disk the name must last before data that is synced can count on it.
    if (made && needs_sync()) made = medium_.sync_names(row);
    if (made) return {};
    base::discard(medium_.remove(file, row), "the first error is the one to tell");
    return made.error().within("device " + name() + ": " + file);
}

Status Device::create_fresh_segment(SegmentNo segment, DurableWrite row) {
    auto found = remove_file(segment, row);
    if (!found) return found.error();
    return create_segment(segment, row);
}

bool Device::has_segment(SegmentNo segment) const {
    return ::faccessat(directory_fd_.get(), segment_name(segment).c_str(), F_OK,
                       AT_SYMLINK_NOFOLLOW) == 0;
}

Result<std::vector<SegmentNo>> Device::list_segments() const {
    auto names = sys::list_names(directory_fd_.get());
    if (!names) return names.error().within(directory_);
    std::vector<SegmentNo> segments;
    for (const auto& name : *names)
        if (const auto segment = segment_of_path(name)) segments.push_back(*segment);
    std::sort(segments.begin(), segments.end());
    return segments;
}

Result<UniqueFd> Device::open_segment(SegmentNo segment, Access access) const {
    // A named pipe in its place must not keep the caller waiting.
    const int mode = (access == Access::Read ? O_RDONLY : O_RDWR) | O_NONBLOCK;
    auto fd = sys::open_at(directory_fd_.get(), segment_name(segment), mode);
    if (!fd) return fd.error().within("device " + name());
    if (auto file = check_file(fd->get(), segment_name(segment)); !file)
        return file.error().within("device " + name());
    return fd;
}

Result<Device::FileIdentity> Device::segment_identity(SegmentNo segment) const {
    struct stat status;
    if (::fstatat(directory_fd_.get(), segment_name(segment).c_str(), &status,
                  AT_SYMLINK_NOFOLLOW) != 0)
        return sys_error(segment_name(segment));
    return FileIdentity{status.st_dev, status.st_ino};
}

Result<Device::SharedFd> Device::segment_fd(SegmentNo segment) const {
    MutexLock lock(mutex_);
    if (const auto known = open_segments_.find(segment); known != open_segments_.end())
        return known->second;
    auto fd = open_segment(segment, Access::ReadWrite);
    if (!fd) return fd.error();
    if (open_segments_.size() >= kOpenSegmentsMax) open_segments_.erase(open_segments_.begin());
    auto shared = std::make_shared<UniqueFd>(std::move(*fd));
    open_segments_.emplace(segment, shared);
    return shared;
}

std::string Device::name_of(SegmentNo segment) const {
    return medium_.is_traced() ? segment_name(segment) : std::string();
}

void Device::forget_fd(SegmentNo segment) const {
    MutexLock lock(mutex_);
    open_segments_.erase(segment);
}

Status Device::write_label(const Label& label) {
    auto row = DurableWrite::LabelJoin;
    if (medium_.is_traced()) {
        const auto old = read_label();
        row = label_change(old ? &*old : nullptr, label);
    }
    RETURN_IF_ERROR(medium_.replace(kLabelFile, encode_label(label), row));
    MutexLock lock(mutex_);
    label_ = label;
    return {};
}

Result<Label> Device::read_label() const {
    auto text = sys::read_small_file(directory_fd_.get(), kLabelFile, kLabelBytesMax);
    if (!text) return text.error();
    auto label = decode_label({reinterpret_cast<const std::uint8_t*>(text->data()), text->size()});
    if (!label) return label;
    MutexLock lock(mutex_);
    label_ = *label;
    return label;
}

Status Device::remove_label() {
    RETURN_IF_ERROR(medium_.remove(kLabelFile, DurableWrite::LabelRemove));
    return medium_.sync_names(DurableWrite::LabelRemove);
}

Label Device::label() const {
    MutexLock lock(mutex_);
    return label_;
}

}  // namespace refault::device
