// Where a ram: device lives: a tmpfs of its own where this process may mount one, else a directory
// in shared memory.
//
// Neither goes by itself when a daemon is killed, so whoever makes one first removes those of dead
// daemons: a home with a label whose lock nobody holds. (A daemon takes the lock before it writes
// the label, and keeps it.) Removal unlinks the segments and never truncates them: programs that
// outlive the daemon keep what they have mapped. Stateless; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "device/spec.h"

namespace refault::device {

struct RamHome {
    std::string directory;
    bool is_private_mount = false;
};

// The directory is new and has mode 0700. Invalid for a node that is not there, NotSupported for a
// node without the right to mount.
base::Result<RamHome> make_ram_home(const DeviceSpec& spec, std::uint64_t capacity_bytes);
void remove_ram_home(const RamHome& home) noexcept;
// Removes what daemons that are gone have left in `base`.
void remove_dead_ram_homes(const std::string& base) noexcept;

}  // namespace refault::device
