// Making and removing the homes of ram: devices.
#include "device/ram_home.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/uuid.h"
#include "device/file_names.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/numa.h"

namespace refault::device {

using base::Code;
using base::Error;
using base::Result;
using base::sys_error;
using base::UniqueFd;

namespace {

constexpr std::string_view kNamePrefix = "refault-ram-";
constexpr const char* kMountBase = "/run";
constexpr const char* kSharedMemoryBase = "/dev/shm";

std::vector<std::string> names_in(const std::string& directory) {
    const auto opened = sys::open_directory(directory);
    if (!opened) return {};
    auto names = sys::list_names(opened->get());
    return names ? std::move(*names) : std::vector<std::string>();
}

Result<std::string> make_directory(const std::string& base, const std::string& name) {
    const std::string path = base + "/" + name;
    if (::mkdir(path.c_str(), 0700) != 0) return sys_error("make " + path);
    return path;
}

// The right to mount is missing, or the place to mount at: shared memory will do instead.
bool is_refusal(const Error& error) {
    return error.code() == Code::Denied || error.code() == Code::NotFound ||
           error.code() == Code::NotSupported;
}

Result<RamHome> mount_home(const std::string& base, const std::string& name,
                           const sys::TmpfsOptions& options) {
    auto directory = make_directory(base, name);
    if (!directory) return directory.error();
    if (const auto mounted = sys::mount_tmpfs(*directory, options); !mounted) {
        ::rmdir(directory->c_str());
        return mounted.error();
    }
    return RamHome{*directory, true};
}

bool is_dead(const std::string& directory) {
    struct stat status;
    if (::lstat(directory.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) ||
        status.st_uid != ::geteuid())
        return false;
    const auto fd = sys::open_directory(directory);
    if (!fd || ::faccessat(fd->get(), kLabelFile, F_OK, AT_SYMLINK_NOFOLLOW) != 0) return false;
    const auto lock = sys::open_at(fd->get(), kLockFile, O_RDWR | O_NONBLOCK);
    return lock && ::flock(lock->get(), LOCK_EX | LOCK_NB) == 0;
}

}  // namespace

Result<RamHome> make_ram_home(const DeviceSpec& spec, std::uint64_t capacity_bytes) {
    if (spec.numa_node && !sys::numa_node_exists(*spec.numa_node))
        return Error(Code::Invalid,
                     "there is no NUMA node " + std::to_string(*spec.numa_node) +
                         " to take memory from; choose one of: " + sys::numa_node_list());
    auto uuid = base::Uuid::random();
    if (!uuid) return uuid.error();
    const std::string name = std::string(kNamePrefix) + uuid->to_string();
    const bool has_base = !spec.ram_directory.empty();
    const std::string mount_base = has_base ? spec.ram_directory : kMountBase;
    const std::string plain_base = has_base ? spec.ram_directory : kSharedMemoryBase;

    remove_dead_ram_homes(mount_base);
    auto home = mount_home(mount_base, name, {capacity_bytes + kLabelRoomBytes, spec.numa_node});
    if (home || !is_refusal(home.error())) return home;
    if (spec.numa_node)
        return Error(
            Code::NotSupported,
            "binding memory to a NUMA node takes the right to mount a tmpfs; run the daemon as "
            "root or leave node= away (" +
                home.error().message() + ")");
    if (plain_base != mount_base) remove_dead_ram_homes(plain_base);
    auto directory = make_directory(plain_base, name);
    if (!directory) return directory.error();
    base::log_line(base::LogLevel::Info,
                   "device " + spec.name + ": no right to mount a tmpfs, using " + *directory);
    return RamHome{*directory, false};
}

void remove_ram_home(const RamHome& home) noexcept {
    // Also before an unmount: the mount may have been copied into other mount namespaces, which
    // must not keep the memory.
    if (const auto fd = sys::open_directory(home.directory))
        for (const auto& name : names_in(home.directory))
            if (name != "." && name != "..")
                base::discard(sys::remove_file(fd->get(), name), "what can be removed is");
    if (home.is_private_mount)
        base::discard(sys::unmount(home.directory), "nothing is left to do about it");
    ::rmdir(home.directory.c_str());
}

void remove_dead_ram_homes(const std::string& base) noexcept {
    for (const auto& name : names_in(base)) {
        const std::string directory = base + "/" + name;
        if (!name.starts_with(kNamePrefix) || !is_dead(directory)) continue;
        base::log_line(base::LogLevel::Info,
                       "removing " + directory + ", left by a daemon that is gone");
        remove_ram_home({directory, sys::is_mount_point(directory)});
    }
}

}  // namespace refault::device
