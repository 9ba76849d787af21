// How a device's segment files are recognised in what /proc says of processes: by name and by
// (st_dev, st_ino). Shared by the proof (who holds any of them, also one of an earlier ownership)
// and the locator (who maps which part of the device now). Value types; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/range.h"
#include "base/result.h"
#include "device/device.h"
#include "sys/process.h"

namespace refault::failure {

using base::Result;
using base::SegmentNo;

// What to look for, as it was at one moment: a segment released later keeps its place in it.
struct SegmentFiles {
    struct File {
        std::uint64_t inode = 0;
        std::uint64_t device = 0;
        SegmentNo segment;
        auto operator<=>(const File&) const = default;
    };
    std::string directory;
    bool is_private_mount = false;
    std::vector<File> files;  // ascending
};
// Those that overlap `range` (all without it).
Result<SegmentFiles> list_segment_files(const device::Device& device,
                                        std::optional<base::DeviceRange> range = {});

// Refers to what it looks for, which must outlive it.
class SegmentMatcher {
  public:
    explicit SegmentMatcher(const SegmentFiles& wanted);

    bool is_segment(std::uint64_t device, std::uint64_t inode, const std::string& path) const;

    struct Mapping {
        sys::MapsEntry entry;
        // Nothing: a segment that is none of those looked for, for example one released earlier.
        std::optional<SegmentNo> segment;
        bool operator==(const Mapping&) const = default;
    };
    // Those of a process's mappings that are of segments.
    std::vector<Mapping> mappings_of_segments(const sys::ProcessMaps& maps,
                                              const std::string& proc_root) const;

  private:
    std::optional<SegmentNo> find(std::uint64_t device, std::uint64_t inode) const;
    // Any of them with this inode number, perhaps on another filesystem.
    std::optional<SegmentNo> find(std::uint64_t inode) const;

    const SegmentFiles& wanted_;
    const std::string segment_prefix_;
    std::optional<std::uint64_t> filesystem_;
};

}  // namespace refault::failure
