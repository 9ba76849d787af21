// Making, opening and labelling devices, and their segments' files.
#include "device/device.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>

#include "base/log.h"
#include "base/units.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace refault::device {

using base::Code;
using base::Error;
using base::MutexLock;
using base::sys_error;

namespace {

constexpr const char* kLabelFile = "label";
constexpr const char* kLockFile = "lock";
constexpr std::size_t kLabelBytesMax = 1 << 20;
constexpr std::uint32_t kSegmentsMin = 4;
// Room on a private tmpfs for the label and its replacement.
constexpr std::uint64_t kLabelRoomBytes = 4ull << 20;
constexpr std::size_t kOpenSegmentsMax = 128;

std::string segment_name(SegmentNo segment) {
    char name[16];
    std::snprintf(name, sizeof name, "seg-%05u", segment.raw());
    return name;
}

}  // namespace

Device::Device(DeviceSpec spec, std::string directory) : spec_(std::move(spec)), directory_(std::move(directory)) {}

Device::~Device() {
    if (!owns_directory_) return;
    {
        MutexLock lock(mutex_);
        open_segments_.clear();
    }
    lock_fd_.reset();
    if (is_private_mount_) {
        directory_fd_.reset();
        base::discard(sys::unmount(directory_), "nothing is left to do about it");
    } else if (auto segments = list_segments()) {
        for (const auto segment : *segments) base::discard(release_segment(segment), "the directory goes as well");
        for (const char* file : {kLabelFile, kLockFile}) base::discard(sys::remove_file(directory_fd_.get(), file), "the same");
    }
    ::rmdir(directory_.c_str());
}

Result<std::unique_ptr<Device>> Device::create(const DeviceSpec& spec, const Uuid& pool) {
    std::unique_ptr<Device> device(new Device(spec, spec.path));
    if (spec.kind == DeviceKind::Ram) RETURN_IF_ERROR(device->choose_geometry());
    if (spec.kind == DeviceKind::Ram) RETURN_IF_ERROR(device->prepare_ram_directory(pool));
    RETURN_IF_ERROR(device->open_directory());
    if (spec.kind == DeviceKind::Dir) RETURN_IF_ERROR(device->choose_geometry());
    auto label = device->read_label();
    if (label && label->state == LabelState::Member)
        return Error(Code::Exists, spec.path + " belongs to pool " + label->pool.to_string() +
                                       " already; open that pool, or remove its files to make it anew");
    if (!label && label.error().code() != Code::NotFound) return label.error().within(spec.path);
    auto segments = device->list_segments();
    if (!segments) return segments.error();
    if (!segments->empty()) return Error(Code::Exists, spec.path + " holds segment files; remove them to use it anew");
    return device;
}

Result<std::unique_ptr<Device>> Device::open(const DeviceSpec& spec) {
    if (spec.kind != DeviceKind::Dir)
        return Error(Code::Invalid, "a ram: device does not outlive its daemon, so it cannot be opened again");
    std::unique_ptr<Device> device(new Device(spec, spec.path));
    RETURN_IF_ERROR(device->open_directory());
    auto label = device->read_label();
    if (!label) return label.error().within(spec.path);
    if (label->state == LabelState::Removed)
        return Error(Code::NotFound, spec.path + " was pulled from its pool; add it as a new device");
    device->segment_bytes_ = label->segment_bytes;
    device->segment_count_ = label->segment_count;
    device->spec_.name = label->name;
    return device;
}

Status Device::open_directory() {
    struct stat status;
    if (::lstat(directory_.c_str(), &status) != 0) return sys_error(directory_);
    if (!S_ISDIR(status.st_mode)) return Error(Code::Invalid, directory_ + " is not a directory", ENOTDIR);
    if (status.st_uid != ::geteuid() && status.st_uid != 0)
        return Error(Code::Denied, directory_ + " belongs to another user; its owner could take the data");
    auto fd = sys::open_directory(directory_);
    if (!fd) return fd.error();
    directory_fd_ = std::move(*fd);
    auto lock = sys::open_at(directory_fd_.get(), kLockFile, O_RDWR | O_CREAT, 0600);
    if (!lock) return lock.error().within(directory_);
    if (::flock(lock->get(), LOCK_EX | LOCK_NB) != 0)
        return Error(Code::Busy, directory_ + " is in use by another daemon");
    lock_fd_ = std::move(*lock);
    auto kind = sys::filesystem_kind(directory_fd_.get());
    if (!kind) return kind.error();
    if (*kind == sys::FilesystemKind::Hugetlbfs)
        return Error(Code::NotSupported, directory_ + " is a hugetlbfs, whose files take no write(2); use a tmpfs "
                                                      "mounted with huge=always");
    memory_kind_ = *kind == sys::FilesystemKind::Tmpfs ? MemoryKind::Shmem : MemoryKind::Other;
    return {};
}

Status Device::prepare_ram_directory(const Uuid& pool) {
    auto uuid = Uuid::random();
    if (!uuid) return uuid.error();
    if (spec_.numa_node && !sys::numa_node_exists(*spec_.numa_node))
        return Error(Code::Invalid, "there is no NUMA node " + std::to_string(*spec_.numa_node) + "; see: lscpu");
    const std::string name = "/refault-" + pool.to_string().substr(0, 8) + "-" + uuid->to_string().substr(0, 8);
    directory_ = (spec_.ram_directory.empty() ? "/dev/shm" : spec_.ram_directory) + name;
    if (::mkdir(directory_.c_str(), 0700) != 0) return sys_error(directory_);
    owns_directory_ = true;
    const auto mounted = sys::mount_tmpfs(
        directory_, {segment_bytes_ * segment_count_ + kLabelRoomBytes, spec_.numa_node});
    is_private_mount_ = mounted.ok();
    if (mounted || mounted.error().code() != Code::Denied) return mounted;
    if (spec_.numa_node)
        return Error(Code::NotSupported, "binding memory to a NUMA node takes the right to mount a tmpfs; run as root");
    base::log_line(base::LogLevel::Info, "device " + spec_.name + ": no right to mount, using " + directory_);
    return {};
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
        return Error(Code::Invalid, "device " + spec_.name + " is too small: it needs at least " +
                                        base::format_size(kSegmentsMin * segment_bytes_));
    if (count > UINT32_MAX) return Error(Code::Invalid, "device " + spec_.name + " is too large for its segment size");
    segment_count_ = static_cast<std::uint32_t>(count);
    return {};
}

Result<std::uint64_t> Device::host_free_bytes() const {
    struct statvfs status;
    if (::fstatvfs(directory_fd_.get(), &status) != 0) return sys_error("statvfs " + directory_);
    return std::uint64_t{status.f_bavail} * status.f_frsize;
}

Status Device::create_segment(SegmentNo segment) {
    CHECK(segment.raw() < segment_count_);
    auto fd = sys::open_at(directory_fd_.get(), segment_name(segment), O_RDWR | O_CREAT | O_EXCL, 0600);
    if (!fd) return fd.error();
    return sys::set_size(fd->get(), segment_bytes_);
}

Status Device::create_fresh_segment(SegmentNo segment) {
    RETURN_IF_ERROR(release_segment(segment));
    return create_segment(segment);
}

Status Device::release_segment(SegmentNo segment) {
    forget_fd(segment);
    auto fd = sys::open_at(directory_fd_.get(), segment_name(segment), O_RDWR);
    if (!fd) return fd.error().code() == Code::NotFound ? Status() : Status(fd.error());
    // Truncation, not the unlink, is what takes the pages away from who has them mapped.
    RETURN_IF_ERROR(sys::set_size(fd->get(), 0));
    return sys::remove_file(directory_fd_.get(), segment_name(segment));
}

bool Device::has_segment(SegmentNo segment) const {
    return ::faccessat(directory_fd_.get(), segment_name(segment).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<std::vector<SegmentNo>> Device::list_segments() const {
    UniqueFd fd(::openat(directory_fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return sys_error(directory_);
    DIR* listing = ::fdopendir(fd.release());
    if (listing == nullptr) return sys_error(directory_);
    std::vector<SegmentNo> segments;
    while (const dirent* entry = ::readdir(listing)) {
        const std::string_view name = entry->d_name;
        if (!name.starts_with("seg-")) continue;
        std::uint32_t number = 0;
        const auto digits = name.substr(4);
        const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), number);
        if (parsed.ec == std::errc{} && segment_name(SegmentNo(number)) == name) segments.emplace_back(number);
    }
    ::closedir(listing);
    std::sort(segments.begin(), segments.end());
    return segments;
}

Result<UniqueFd> Device::open_segment(SegmentNo segment, Access access) const {
    return sys::open_at(directory_fd_.get(), segment_name(segment), access == Access::Read ? O_RDONLY : O_RDWR);
}

Result<Device::FileIdentity> Device::segment_identity(SegmentNo segment) const {
    struct stat status;
    if (::fstatat(directory_fd_.get(), segment_name(segment).c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
        return sys_error(segment_name(segment));
    return FileIdentity{status.st_dev, status.st_ino};
}

Result<Device::SharedFd> Device::segment_fd(SegmentNo segment) const {
    MutexLock lock(mutex_);
    if (const auto known = open_segments_.find(segment); known != open_segments_.end()) return known->second;
    auto fd = open_segment(segment, Access::ReadWrite);
    if (!fd) return fd.error();
    if (open_segments_.size() >= kOpenSegmentsMax) open_segments_.erase(open_segments_.begin());
    auto shared = std::make_shared<UniqueFd>(std::move(*fd));
    open_segments_.emplace(segment, shared);
    return shared;
}

void Device::forget_fd(SegmentNo segment) const {
    MutexLock lock(mutex_);
    open_segments_.erase(segment);
}

Status Device::write_label(const Label& label) {
    RETURN_IF_ERROR(sys::replace_file(directory_fd_.get(), kLabelFile, encode_label(label)));
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

Status Device::remove_label() { return sys::remove_file(directory_fd_.get(), kLabelFile); }

Label Device::label() const {
    MutexLock lock(mutex_);
    return label_;
}

}  // namespace refault::device
