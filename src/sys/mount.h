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
// Denied when this process may not mount.
base::Status mount_tmpfs(const std::string& directory, const TmpfsOptions& options);
// Detaches it from the tree at once; it ends when nothing uses it any more.
base::Status unmount(const std::string& directory);

enum class FilesystemKind { Tmpfs, Hugetlbfs, Other };
base::Result<FilesystemKind> filesystem_kind(int directory);

bool numa_node_exists(int node);

}  // namespace refault::sys
