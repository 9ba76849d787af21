// Splitting of lost ranges.
#include "store/lost_map.h"

namespace refault::store {

LostRange LostMap::cut_to(const LostRange& lost, FileRange range) {
    auto part = lost;
    part.range = lost.range.intersect(range);
    part.device_offset += part.range.begin() - lost.range.begin();
    return part;
}

std::vector<LostRange> LostMap::overlapping(FileRange range) const {
    std::vector<LostRange> found;
    auto at = parts_.upper_bound(range.begin());
    if (at != parts_.begin()) --at;
    for (; at != parts_.end() && at->first < range.end(); ++at)
        if (at->second.range.overlaps(range)) found.push_back(cut_to(at->second, range));
    return found;
}

void LostMap::add(const LostRange& lost) {
    auto begin = lost.range.begin();
    const auto put = [&](std::uint64_t end) {
        if (begin < end) parts_.emplace(begin, cut_to(lost, FileRange(begin, end)));
    };
    for (const auto& known : overlapping(lost.range)) {
        put(known.range.begin());
        begin = known.range.end();
    }
    put(lost.range.end());
}

void LostMap::clear(FileRange range) {
    if (range.empty()) return;
    for (const auto& cut : overlapping(range)) {
        const auto at = std::prev(parts_.upper_bound(cut.range.begin()));
        const auto whole = at->second;
        parts_.erase(at);
        for (const FileRange rest : {FileRange(whole.range.begin(), cut.range.begin()),
                                     FileRange(cut.range.end(), whole.range.end())})
            if (!rest.empty()) parts_.emplace(rest.begin(), cut_to(whole, rest));
    }
}

}  // namespace refault::store
