// Private tmpfs mounts, and what kind of filesystem a directory is on. Stateless.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace refault::sys {

struct TmpfsOptions {
    std::uint64_t size_bytes = 0;
    std::optional<int> numa_node;
};
// Only root of the mount (mode 0700) enters it, nothing in it is executed or set-uid. In huge pages
// where the kernel has them. Denied when this process may not mount.
base::Status mount_tmpfs(const std::string& directory, const TmpfsOptions& options);
// Detaches it from the tree at once; its memory goes when nothing uses it any more.
base::Status unmount(const std::string& directory);
// The same for a FUSE filesystem of this user, by fusermount3 where it takes that. Unless
// `is_lazy`, Busy while anybody uses it. Waits for requests that the kernel sends meanwhile.
base::Status unmount_fuse(const std::string& directory, bool is_lazy);
// st_dev of what is mounted there, by the kernel's table: the filesystem itself is not asked. 0
// when nothing is.
std::uint64_t mounted_device(const std::string& directory);
// True when something is mounted there.
bool is_mount_point(const std::string& directory);

enum class FilesystemKind { Tmpfs, Hugetlbfs, Other };
base::Result<FilesystemKind> filesystem_kind(int directory);

}  // namespace refault::sys
