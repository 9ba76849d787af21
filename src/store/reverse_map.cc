// Searching, splitting and joining of a device's records.
#include "store/reverse_map.h"

#include <algorithm>

namespace refault::store {

using base::kPageBytes;

ReverseMap::ReverseMap(DeviceId device, std::uint64_t segment_bytes, std::uint32_t segment_count)
    : device_(device), segment_bytes_(segment_bytes), segments_(segment_count) {}

const ReverseMap::Segment& ReverseMap::at(SegmentNo segment) const {
    CHECK(segment.raw() < segments_.size());
    return segments_[segment.raw()];
}

ReverseMap::Segment& ReverseMap::at(SegmentNo segment) {
    CHECK(segment.raw() < segments_.size());
    return segments_[segment.raw()];
}

bool ReverseMap::is_place(std::uint64_t offset, std::uint64_t length) const noexcept {
    return length > 0 && length <= segment_bytes_ && offset < capacity_bytes() &&
           offset % segment_bytes_ + length <= segment_bytes_ &&
           base::is_aligned(offset, kPageBytes) && base::is_aligned(length, kPageBytes);
}

std::uint32_t ReverseMap::page_in_segment(std::uint64_t offset) const {
    return static_cast<std::uint32_t>(offset % segment_bytes_ / kPageBytes);
}

void ReverseMap::set_owner(SegmentNo segment, const SegmentOwner& owner) {
    CHECK(!at(segment).owner);
    at(segment).owner = owner;
    if (owner.kind == SegmentOwner::Kind::Metadata) ++metadata_segments_;
}

void ReverseMap::clear_owner(SegmentNo segment) {
    auto& cleared = at(segment);
    CHECK(cleared.owner && cleared.starts.empty());
    if (cleared.owner->kind == SegmentOwner::Kind::Metadata) --metadata_segments_;
    // An empty segment gives its memory back as well.
    cleared = Segment{};
}

std::size_t ReverseMap::find(const Segment& segment, std::uint32_t page) {
    const auto& starts = segment.starts;
    const auto above = std::upper_bound(starts.begin(), starts.end(), page);
    const auto index = static_cast<std::size_t>(above - starts.begin());
    if (index > 0 && starts[index - 1] + segment.records[index - 1].pages > page) return index - 1;
    return index;
}

void ReverseMap::insert(Segment& segment, std::size_t index, std::uint32_t start,
                        const Record& record) {
    segment.starts.insert(segment.starts.begin() + static_cast<std::ptrdiff_t>(index), start);
    segment.records.insert(segment.records.begin() + static_cast<std::ptrdiff_t>(index), record);
}

void ReverseMap::erase(Segment& segment, std::size_t index) {
    segment.starts.erase(segment.starts.begin() + static_cast<std::ptrdiff_t>(index));
    segment.records.erase(segment.records.begin() + static_cast<std::ptrdiff_t>(index));
}

bool ReverseMap::overlaps(std::uint64_t offset, std::uint64_t length) const {
    CHECK(is_place(offset, length));
    const auto& segment = segment_of(offset);
    const auto index = find(segment, page_in_segment(offset));
    return index < segment.starts.size() &&
           segment.starts[index] < page_in_segment(offset) + length / kPageBytes;
}

bool ReverseMap::holds(const Extent& run) const {
    CHECK(is_place(run.device_offset, run.length));
    const auto& segment = segment_of(run.device_offset);
    const auto page = page_in_segment(run.device_offset);
    const auto index = find(segment, page);
    if (index == segment.starts.size() || segment.starts[index] > page) return false;
    const auto& record = segment.records[index];
    const auto skipped = page - segment.starts[index];
    return record.inode == run.inode && record.replica == run.replica &&
           (record.file_page + skipped) * kPageBytes == run.file_offset &&
           run.length / kPageBytes <= record.pages - skipped;
}

void ReverseMap::add(const Extent& extent) {
    CHECK(!overlaps(extent.device_offset, extent.length));
    auto& segment = segment_of(extent.device_offset);
    auto start = page_in_segment(extent.device_offset);
    Record record{extent.inode, extent.file_offset / kPageBytes,
                  static_cast<std::uint32_t>(extent.length / kPageBytes), extent.replica};
    const auto continues = [](std::uint32_t left_start, const Record& left,
                              std::uint32_t right_start, const Record& right) {
        return left_start + left.pages == right_start && left.inode == right.inode &&
               left.replica == right.replica && left.file_page + left.pages == right.file_page;
    };
    data_bytes_ += extent.length;
    auto index = find(segment, start);
    if (index < segment.starts.size() &&
        continues(start, record, segment.starts[index], segment.records[index])) {
        record.pages += segment.records[index].pages;
        erase(segment, index);
        --extent_count_;
    }
    if (index > 0 &&
        continues(segment.starts[index - 1], segment.records[index - 1], start, record)) {
        segment.records[index - 1].pages += record.pages;
        return;
    }
    insert(segment, index, start, record);
    ++extent_count_;
}

// |------- record -------|   minus   |- run -|   leaves   |- left -|       |- right -|
void ReverseMap::cut(const Extent& run) {
    CHECK(holds(run));
    auto& segment = segment_of(run.device_offset);
    const auto page = page_in_segment(run.device_offset);
    const auto index = find(segment, page);
    const auto pages = static_cast<std::uint32_t>(run.length / kPageBytes);
    auto left = segment.records[index];
    auto right = left;
    left.pages = page - segment.starts[index];
    right.pages -= left.pages + pages;
    right.file_page += left.pages + pages;
    data_bytes_ -= run.length;
    --extent_count_;
    if (left.pages > 0 && right.pages > 0) {
        segment.records[index] = left;
        insert(segment, index + 1, page + pages, right);
        extent_count_ += 2;
    } else if (left.pages > 0) {
        segment.records[index] = left;
        ++extent_count_;
    } else if (right.pages > 0) {
        segment.records[index] = right;
        segment.starts[index] = page + pages;
        ++extent_count_;
    } else {
        erase(segment, index);
    }
}

std::vector<Extent> ReverseMap::extents(SegmentNo segment_no) const {
    const auto& segment = at(segment_no);
    const auto base = segment_no.raw() * segment_bytes_;
    std::vector<Extent> all;
    all.reserve(segment.starts.size());
    for (std::size_t i = 0; i < segment.starts.size(); ++i) {
        const auto& record = segment.records[i];
        all.push_back({record.inode, record.file_page * kPageBytes, device_,
                       base + segment.starts[i] * kPageBytes, record.pages * kPageBytes,
                       record.replica});
    }
    return all;
}

void ReverseMap::locate(DeviceRange range, std::vector<Located>& into) const {
    range = range.intersect(DeviceRange(0, capacity_bytes()));
    for (auto begin = range.begin(); begin < range.end();) {
        const auto base = base::align_down(begin, segment_bytes_);
        const auto end = std::min(range.end(), base + segment_bytes_);
        const auto& segment = segment_of(begin);
        if (segment.owner && segment.owner->kind == SegmentOwner::Kind::Metadata)
            into.push_back({DeviceRange(begin, end), true, {}, {}, 0});
        for (auto i = find(segment, page_in_segment(begin)); i < segment.starts.size(); ++i) {
            const auto& record = segment.records[i];
            const auto whole = DeviceRange::of_length(base + segment.starts[i] * kPageBytes,
                                                      record.pages * kPageBytes);
            if (whole.begin() >= end) break;
            const auto part = whole.intersect(DeviceRange(begin, end));
            const auto file_offset = record.file_page * kPageBytes + (part.begin() - whole.begin());
            into.push_back({part, false, record.inode,
                            FileRange::of_length(file_offset, part.length()), record.replica});
        }
        begin = end;
    }
}

}  // namespace refault::store
