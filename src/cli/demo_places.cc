// Reading and searching the reverse map.
#include "cli/demo_places.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/range_set.h"

namespace refault::cli {

using base::Code;
using base::Error;
using base::FileRange;
using base::Result;
using base::Status;

Result<std::vector<DemoPart>> read_parts(const ControlClient& control) {
    auto devices = control.get("/v1/devices");
    if (!devices) return devices.error();
    std::vector<DemoPart> parts;
    for (const auto& device : (*devices)["devices"]) {
        if (device.value("state", "") != "in-service") continue;
        const auto name = device.value("name", "");
        auto found = control.get("/v1/locate?device=" + url_encode(name) + "&offset=0&length=" +
                                 std::to_string(device.value("capacity_bytes", 0ull)));
        if (!found) return found.error();
        for (const auto& owner : (*found)["owners"])
            if (owner.value("owner", "") == "file")
                parts.push_back(
                    {owner.value("path", ""), owner.value("replica", 0u), name,
                     owner.value("device_begin", 0ull),
                     FileRange(owner.value("file_begin", 0ull), owner.value("file_end", 0ull))});
    }
    return parts;
}

Status check_copies(const std::vector<DemoPart>& parts, const DemoFile& file,
                    std::uint64_t file_bytes) {
    const FileRange whole(0, file_bytes);
    for (unsigned replica = 0; replica < file.copies; ++replica) {
        base::RangeSet held;
        for (const auto& part : parts)
            if (part.path == file.path && part.replica == replica) held.add(part.range);
        if (!held.gaps(whole).empty())
            return Error(Code::Io, "copy " + std::to_string(replica) + " of " + file.path +
                                       " is not complete");
    }
    for (const auto& one : parts)
        for (const auto& other : parts)
            if (one.path == file.path && other.path == file.path && one.replica < other.replica &&
                one.device == other.device && one.range.overlaps(other.range))
                return Error(Code::Io, "two copies of bytes of " + file.path + " lie on " +
                                           one.device + " both");
    return {};
}

std::vector<FileRange> primary_ranges(const std::vector<DemoPart>& parts, const DemoFile& file,
                                      const std::string& device) {
    std::vector<FileRange> ranges;
    for (const auto& part : parts)
        if (part.path == file.path && part.replica == 0 && part.device == device)
            ranges.push_back(part.range);
    return ranges;
}

std::uint64_t length_of(const std::vector<FileRange>& ranges) {
    std::uint64_t bytes = 0;
    for (const auto range : ranges) bytes += range.length();
    return bytes;
}

std::string device_to_yank(const std::vector<DemoPart>& parts, const std::vector<DemoFile>& files) {
    std::tuple<std::size_t, std::uint64_t, std::string> best;
    for (const auto& part : parts) {
        std::size_t count = 0;
        std::uint64_t bytes = 0;
        for (const auto& file : files) {
            if (file.copies < 2) continue;
            const auto here = length_of(primary_ranges(parts, file, part.device));
            bytes += here;
            if (here > 0) ++count;
        }
        best = std::max(best, {count, bytes, part.device});
    }
    return std::get<std::string>(best);
}

std::optional<DemoPage> page_elsewhere(const std::vector<DemoPart>& parts, const std::string& path,
                                       const std::string& device) {
    for (const auto& part : parts) {
        if (part.path != path || part.replica != 0 || part.device == device) continue;
        // In the middle: the pages around it must not notice.
        const auto into = base::align_down(part.range.length() / 2, base::kPageBytes);
        return DemoPage{path, part.device, part.device_begin + into, part.range.begin() + into};
    }
    return std::nullopt;
}

}  // namespace refault::cli
