// Disjoint ranges in an ordered map.
#include "base/range_set.h"

#include <algorithm>

namespace refault::base {

// before:   [----)   [--)      [---)
// add:          [-----------)
// after:    [---------------)  [---)
void RangeSet::add(FileRange range) {
    if (range.empty()) return;
    std::uint64_t begin = range.begin();
    std::uint64_t end = range.end();
    auto at = ranges_.upper_bound(begin);
    if (at != ranges_.begin() && std::prev(at)->second >= begin) --at;
    while (at != ranges_.end() && at->first <= end) {
        begin = std::min(begin, at->first);
        end = std::max(end, at->second);
        at = ranges_.erase(at);
    }
    ranges_.emplace(begin, end);
}

// before:   [----------)   [------)
// subtract:     [---------------)
// after:    [--)                [-)
void RangeSet::subtract(FileRange range) {
    if (range.empty()) return;
    auto at = ranges_.upper_bound(range.begin());
    if (at != ranges_.begin() && std::prev(at)->second > range.begin()) --at;
    while (at != ranges_.end() && at->first < range.end()) {
        const auto [begin, end] = *at;
        at = ranges_.erase(at);
        if (begin < range.begin()) ranges_.emplace(begin, range.begin());
        if (end > range.end()) ranges_.emplace(range.end(), end);
    }
}

bool RangeSet::overlaps(FileRange range) const {
    if (range.empty()) return false;
    auto at = ranges_.lower_bound(range.end());
    return at != ranges_.begin() && std::prev(at)->second > range.begin();
}

std::uint64_t RangeSet::length_bytes() const noexcept {
    std::uint64_t total = 0;
    for (const auto& [begin, end] : ranges_) total += end - begin;
    return total;
}

std::vector<FileRange> RangeSet::parts(FileRange within) const {
    std::vector<FileRange> found;
    auto at = ranges_.upper_bound(within.begin());
    if (at != ranges_.begin()) --at;
    for (; at != ranges_.end() && at->first < within.end(); ++at) {
        const auto part = FileRange(at->first, at->second).intersect(within);
        if (!part.empty()) found.push_back(part);
    }
    return found;
}

std::vector<FileRange> RangeSet::parts() const {
    return parts(FileRange(0, UINT64_MAX));
}

std::vector<FileRange> RangeSet::gaps(FileRange within) const {
    std::vector<FileRange> found;
    std::uint64_t at = within.begin();
    for (const auto part : parts(within)) {
        if (at < part.begin()) found.emplace_back(at, part.begin());
        at = part.end();
    }
    if (at < within.end()) found.emplace_back(at, within.end());
    return found;
}

}  // namespace refault::base
