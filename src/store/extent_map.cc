// Splitting and joining of one file's extents.
#include "store/extent_map.h"

#include <algorithm>

namespace refault::store {

namespace {

Extent cut_to(const Extent& extent, FileRange range) {
    const auto part = extent.file_range().intersect(range);
    auto result = extent;
    result.file_offset = part.begin();
    result.device_offset += part.begin() - extent.file_offset;
    result.length = part.length();
    return result;
}

}  // namespace

ExtentMap::Runs::const_iterator ExtentMap::find(std::uint32_t replica, std::uint64_t offset) const {
    auto at = runs_.upper_bound({replica, offset});
    if (at != runs_.begin()) {
        const auto previous = std::prev(at);
        if (previous->first.first == replica &&
            previous->first.second + previous->second.length > offset)
            return previous;
    }
    return at;
}

bool ExtentMap::overlaps(std::uint32_t replica, FileRange range) const {
    const auto at = find(replica, range.begin());
    return at != runs_.end() && at->first.first == replica && at->first.second < range.end() &&
           !range.empty();
}

bool ExtentMap::holds(const Extent& run) const {
    const auto at = find(run.replica, run.file_offset);
    if (at == runs_.end() || at->first.first != run.replica || at->first.second > run.file_offset)
        return false;
    const auto skipped = run.file_offset - at->first.second;
    return at->second.device == run.device &&
           at->second.device_offset + skipped == run.device_offset &&
           run.length <= at->second.length - skipped;
}

void ExtentMap::add(const Extent& extent, std::uint64_t segment_bytes) {
    Key key{extent.replica, extent.file_offset};
    Run run{extent.device, extent.device_offset, extent.length};
    const auto continues = [&](const Key& left_key, const Run& left, const Key& right_key,
                               const Run& right) {
        return left_key.first == right_key.first &&
               left_key.second + left.length == right_key.second && left.device == right.device &&
               left.device_offset + left.length == right.device_offset &&
               right.device_offset % segment_bytes != 0;
    };
    auto next = runs_.lower_bound(key);
    if (next != runs_.begin()) {
        const auto previous = std::prev(next);
        if (continues(previous->first, previous->second, key, run)) {
            key = previous->first;
            run.device_offset = previous->second.device_offset;
            run.length += previous->second.length;
            runs_.erase(previous);
        }
    }
    if (next != runs_.end() && continues(key, run, next->first, next->second)) {
        run.length += next->second.length;
        next = runs_.erase(next);
    }
    runs_.emplace_hint(next, key, run);
}

void ExtentMap::cut(const Extent& run) {
    CHECK(holds(run));
    const auto at = find(run.replica, run.file_offset);
    const auto [key, whole] = *at;
    const auto left_length = run.file_offset - key.second;
    const auto right_length = whole.length - left_length - run.length;
    runs_.erase(at);
    if (left_length > 0) runs_.emplace(key, Run{whole.device, whole.device_offset, left_length});
    if (right_length > 0)
        runs_.emplace(Key{run.replica, run.file_offset + run.length},
                      Run{whole.device, run.device_offset + run.length, right_length});
}

std::vector<Extent> ExtentMap::overlapping(InodeNo inode, FileRange range) const {
    std::vector<Extent> found;
    for (auto at = runs_.begin(); at != runs_.end() && !range.empty();) {
        const auto replica = at->first.first;
        for (at = find(replica, range.begin());
             at != runs_.end() && at->first.first == replica && at->first.second < range.end();
             ++at) {
            const auto& run = at->second;
            found.push_back(cut_to(
                {inode, at->first.second, run.device, run.device_offset, run.length, replica},
                range));
        }
        at = runs_.lower_bound({replica + 1, 0});
    }
    return found;
}

void ExtentMap::locate(InodeNo inode, DeviceId device, DeviceRange range,
                       std::vector<Located>& into) const {
    for (const auto& [key, run] : runs_) {
        if (run.device != device) continue;
        const auto part = DeviceRange::of_length(run.device_offset, run.length).intersect(range);
        if (part.empty()) continue;
        const auto file_offset = key.second + (part.begin() - run.device_offset);
        into.push_back(
            {part, false, inode, FileRange::of_length(file_offset, part.length()), key.first});
    }
}

std::optional<Extent> ExtentMap::before(InodeNo inode, std::uint64_t offset) const {
    auto at = runs_.lower_bound({0, offset});
    if (at == runs_.begin()) return std::nullopt;
    --at;
    if (at->first.first != 0 || at->first.second + at->second.length > offset) return std::nullopt;
    return Extent{
        inode, at->first.second, at->second.device, at->second.device_offset, at->second.length, 0};
}

std::uint64_t ExtentMap::end_of(std::uint64_t offset) const {
    const auto at = find(0, offset);
    if (at == runs_.end() || at->first.first != 0 || at->first.second > offset) return offset;
    return at->first.second + at->second.length;
}

std::optional<std::uint64_t> ExtentMap::next(std::uint64_t offset) const {
    const auto at = find(0, offset);
    if (at == runs_.end() || at->first.first != 0) return std::nullopt;
    return std::max(at->first.second, offset);
}

}  // namespace refault::store
