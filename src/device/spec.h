// How a person names a device: "NAME=ram:SIZE[,node=N]" or "NAME=dir:PATH[,size=SIZE]". Value type.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace refault::device {

enum class DeviceKind : std::uint8_t { Ram, Dir };

struct DeviceSpec {
    std::string name;  // [A-Za-z0-9._-], 1..63 characters
    DeviceKind kind = DeviceKind::Ram;
    std::uint64_t size_bytes = 0;  // ram: needed; dir: 0 means "what the filesystem has free"
    std::string path;              // dir: absolute
    std::optional<int> numa_node;  // ram: where to allocate
    std::optional<std::uint64_t>
        segment_bytes;          // a power of two, 4 KiB to 1 GiB; else from the size
    std::string ram_directory;  // ram: where its directory is made; empty: /run, or /dev/shm when
                                // it may not mount

    // The part behind NAME=, with the options that were given: "ram:512M,node=1", "dir:/path".
    std::string to_string() const;
};

inline constexpr std::uint64_t kSegmentBytesMin = 4096;
inline constexpr std::uint64_t kSegmentBytesMax = 1ull << 30;

bool is_device_name(std::string_view text) noexcept;
// A power of two from 4 KiB to 1 GiB.
bool is_segment_size(std::uint64_t bytes) noexcept;

// Also accepts no "NAME=" when `default_name` is given.
base::Result<DeviceSpec> parse_device_spec(std::string_view text,
                                           std::string_view default_name = "");

// A power of two, 2 MiB to 1 GiB, that gives the capacity some hundreds of segments.
std::uint64_t choose_segment_bytes(std::uint64_t capacity_bytes) noexcept;

}  // namespace refault::device
