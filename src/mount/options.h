// What a mount is asked for: where, and the comma-separated options of mount(8). Value types.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"

namespace refault::mount {

struct MountOptions {
    std::string directory;  // absolute
    std::string pool_name;  // shown as the source: refault:NAME
    bool allows_others = false;
    bool is_read_only = false;
    // Writes are gathered in the kernel's cache; see docs/mount.md for what that costs.
    bool has_writeback = false;
    // How long a request waits for a range that is locked, before it fails with EIO.
    std::chrono::milliseconds patience{10'000};
    // Passed on to the kernel: nosuid, noexec ...
    std::vector<std::string> kernel_options;
};

// Invalid names the option that is unknown. Options that only concern mount(8) and fstab are passed
// over. `is_root`: others may use the mount unless told otherwise.
base::Result<MountOptions> parse_mount_options(const std::string& directory,
                                               const std::string& text, bool is_root);

}  // namespace refault::mount
