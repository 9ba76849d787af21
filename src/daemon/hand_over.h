// What a daemon gives to the one that takes its place in the same process (`refault daemon
// upgrade`): descriptors, and what belongs to them, in a memory file whose number is the argument
// of the new program's --take-over. execve(2) keeps the process, so also the locks: nobody else can
// get hold of the pool in between. All else the new daemon reads from the devices, as it would
// after a crash.
//
// The format is JSON with a number of its own; a program is asked whether it knows it before it is
// started. Stateless.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "device/device.h"
#include "mount/handed_over.h"

namespace refault::daemon {

inline constexpr int kHandOverFormat = 1;

struct HandOver {
    base::UniqueFd run_dir;  // locked
    std::uint64_t upgrades = 0;
    std::uint64_t last_event = 0;
    // Empty when no pool was open; then there is no listener either.
    std::vector<device::HandedOverDevice> devices;
    std::vector<std::string> slots;  // of each device
    base::UniqueFd listener;         // of session.sock
    std::optional<mount::HandedOver> mount;
};

// A memory file that the next program inherits, with all the descriptors. They stay open in this
// one: after it only execve follows.
base::Result<base::UniqueFd> write_hand_over(HandOver hand_over);
// What `fd` of the program before has. Corrupt when it is no hand-over, NotSupported for another
// format.
base::Result<HandOver> read_hand_over(int fd);

// What `program --hand-over-format` says of itself, when it can take over.
struct Successor {
    std::string path;  // as it is checked and run: without symbolic links
    std::string version;
};
base::Result<Successor> probe_successor(const std::string& path);

// Replaces the program of this process. Returns only when that failed.
base::Error execute(const std::string& path, std::vector<std::string> arguments);

}  // namespace refault::daemon
