// What the kernel keeps for us with each open file: how it was opened. Value type.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "mount/open_inodes.h"

namespace refault::mount {

class FileHandle {
  public:
    explicit FileHandle(OpenMode mode) : bits_(static_cast<std::uint64_t>(mode)) {}
    explicit FileHandle(const fuse_file_info* info) : bits_(info->fh) {}

    OpenMode mode() const { return static_cast<OpenMode>(bits_); }
    std::uint64_t bits() const { return bits_; }

  private:
    std::uint64_t bits_;
};

}  // namespace refault::mount
