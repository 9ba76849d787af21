// mount(2), statfs(2).
#include "sys/mount.h"

#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>

namespace refault::sys {

using base::sys_error;

base::Status mount_tmpfs(const std::string& directory, const TmpfsOptions& options) {
    std::string text = "mode=0700,size=" + std::to_string(options.size_bytes);
    if (options.numa_node) text += ",mpol=bind:" + std::to_string(*options.numa_node);
    constexpr unsigned long kFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    const auto try_mount = [&](const std::string& data) {
        return ::mount("refault", directory.c_str(), "tmpfs", kFlags, data.c_str()) == 0;
    };
    // A kernel without transparent huge pages does not know the option.
    if (try_mount(text + ",huge=always") || (errno == EINVAL && try_mount(text))) return {};
    return sys_error("mount a tmpfs at " + directory);
}

base::Status unmount(const std::string& directory) {
    if (::umount2(directory.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
        return sys_error("unmount " + directory);
    return {};
}

bool is_mount_point(const std::string& directory) {
    struct stat here, above;
    return ::lstat(directory.c_str(), &here) == 0 &&
           ::stat((directory + "/..").c_str(), &above) == 0 && here.st_dev != above.st_dev;
}

base::Result<FilesystemKind> filesystem_kind(int directory) {
    struct statfs status;
    if (::fstatfs(directory, &status) != 0) return sys_error("statfs");
    if (status.f_type == TMPFS_MAGIC) return FilesystemKind::Tmpfs;
    if (status.f_type == HUGETLBFS_MAGIC) return FilesystemKind::Hugetlbfs;
    return FilesystemKind::Other;
}

}  // namespace refault::sys
