// Matching by name, by numbers, and by the file behind a mapping where the numbers differ.
#include "failure/segment_files.h"

#include <sys/stat.h>

#include <algorithm>

namespace refault::failure {

Result<SegmentFiles> list_segment_files(const device::Device& device,
                                        std::optional<base::DeviceRange> range) {
    SegmentFiles wanted{device.directory(), device.is_private_mount(), {}};
    auto segments = device.list_segments();
    if (!segments) return segments.error();
    for (const auto segment : *segments) {
        if (range && !range->overlaps(device.segment_range(segment))) continue;
        if (auto identity = device.segment_identity(segment))
            wanted.files.push_back({identity->inode, identity->device, segment});
    }
    std::sort(wanted.files.begin(), wanted.files.end());
    return wanted;
}

SegmentMatcher::SegmentMatcher(const SegmentFiles& wanted)
    : wanted_(wanted), segment_prefix_(wanted.directory + "/seg-") {
    struct stat status;
    if (wanted.is_private_mount && ::stat(wanted.directory.c_str(), &status) == 0)
        filesystem_ = status.st_dev;
}

std::optional<SegmentNo> SegmentMatcher::find(std::uint64_t device, std::uint64_t inode) const {
    const SegmentFiles::File lowest{inode, device, SegmentNo(0)};
    const auto found = std::lower_bound(wanted_.files.begin(), wanted_.files.end(), lowest);
    if (found == wanted_.files.end() || found->inode != inode || found->device != device)
        return std::nullopt;
    return found->segment;
}

std::optional<SegmentNo> SegmentMatcher::find(std::uint64_t inode) const {
    const SegmentFiles::File lowest{inode, 0, SegmentNo(0)};
    const auto found = std::lower_bound(wanted_.files.begin(), wanted_.files.end(), lowest);
    if (found == wanted_.files.end() || found->inode != inode) return std::nullopt;
    return found->segment;
}

bool SegmentMatcher::is_segment(std::uint64_t device, std::uint64_t inode,
                                const std::string& path) const {
    // By name: also a segment of an earlier ownership, which has no entry in the list. A btrfs
    // subvolume or an overlay shows another device number in maps than in stat, so the number
    // alone does not decide.
    if (path.starts_with(segment_prefix_)) return true;
    // A private tmpfs has nothing but segments, the label and the lock in it, whatever name
    // another mount namespace gives them.
    if (filesystem_ && device == *filesystem_) return path.find("/seg-") != path.npos;
    return find(device, inode).has_value();
}

std::vector<SegmentMatcher::Mapping> SegmentMatcher::mappings_of_segments(
    const sys::ProcessMaps& maps, const std::string& proc_root) const {
    std::vector<Mapping> found;
    for (const auto& entry : maps.entries) {
        if (entry.inode == 0) continue;
        bool is_one = is_segment(entry.device, entry.inode, entry.path);
        auto segment = find(entry.device, entry.inode);
        // One directory is one filesystem: there the inode number alone is enough.
        if (!segment && entry.path.starts_with(segment_prefix_)) segment = find(entry.inode);
        if (!segment && !is_one && find(entry.inode)) {
            if (const auto file = sys::mapped_file(maps.reader, entry.addresses, proc_root)) {
                is_one = is_segment(file->first, file->second, entry.path);
                segment = find(file->first, file->second);
            }
        }
        if (is_one) found.push_back({entry, segment});
    }
    return found;
}

}  // namespace refault::failure
