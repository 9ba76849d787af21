// Where the bytes of the demo's files lie, by the daemon's reverse map; and what follows for a
// loss.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/range.h"
#include "base/result.h"
#include "cli/control_client.h"
#include "cli/demo_rules.h"

namespace refault::cli {

struct DemoPart {
    std::string path;
    unsigned replica = 0;
    std::string device;
    std::uint64_t device_begin = 0;
    base::FileRange range;
};

struct DemoPage {
    std::string path;
    std::string device;
    std::uint64_t device_offset = 0;
    std::uint64_t file_offset = 0;
};

// All parts of all files.
base::Result<std::vector<DemoPart>> read_parts(const ControlClient& control);

// Error: a byte of the file has too few copies, or two on one device.
base::Status check_copies(const std::vector<DemoPart>& parts, const DemoFile& file,
                          std::uint64_t file_bytes);

// The device with primary bytes of most files that have a copy, then with most such bytes.
std::string device_to_yank(const std::vector<DemoPart>& parts, const std::vector<DemoFile>& files);
// The parts of the file whose primary lies on the device.
std::vector<base::FileRange> primary_ranges(const std::vector<DemoPart>& parts,
                                            const DemoFile& file, const std::string& device);
std::uint64_t length_of(const std::vector<base::FileRange>& ranges);

// A page of the primary that does not lie on `device`, if there is one.
std::optional<DemoPage> page_elsewhere(const std::vector<DemoPart>& parts, const std::string& path,
                                       const std::string& device);

}  // namespace refault::cli
