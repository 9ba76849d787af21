// Searching, splitting and joining of a device's records.
#include "store/reverse_map.h"

#include <algorithm>

namespace refault::store {

using base::kPageBytes;

namespace {
// Bit fields of a record; both are wider than any value.
constexpr std::uint64_t kFilePageBits = (1ull << 56) - 1;
constexpr std::uint32_t kReplicaBits = 255;
static_assert(UINT64_MAX / kPageBytes <= kFilePageBits && kReplicasMax <= kReplicaBits + 1);
}  // namespace

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
    CHECK(cleared.owner && cleared.records.empty());
    if (cleared.owner->kind == SegmentOwner::Kind::Metadata) --metadata_segments_;
    // An empty segment gives its memory back as well.
    cleared = Segment{};
}

// low and high close in on the first record that ends behind `page`, in steps that double, from a
// guess:
//
//   records   | ends before | ends before | guess |     | ends behind | ends behind |
//                            low                          high
std::size_t ReverseMap::find(const Segment& segment, std::uint32_t page) {
    const auto& records = segment.records;
    if (records.empty() || records.back().end() <= page) return records.size();
    constexpr std::size_t kFirstStep = 4;
    std::size_t low = 0;
    std::size_t high = records.size() - 1;
    std::size_t guess = high * page / records.back().end();
    for (std::size_t step = kFirstStep; low < high; step *= 2) {
        const bool ends_behind = records[guess].end() > page;
        if (ends_behind)
            high = guess;
        else
            low = guess + 1;
        if (high - low <= step) break;
        guess = ends_behind ? high - step : low + step;
    }
    while (low < high) {
        const auto middle = low + (high - low) / 2;
        if (records[middle].end() > page)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void ReverseMap::insert(Segment& segment, std::size_t index, const Record& record) {
    segment.records.insert(segment.records.begin() + static_cast<std::ptrdiff_t>(index), record);
}

void ReverseMap::erase(Segment& segment, std::size_t index) {
    segment.records.erase(segment.records.begin() + static_cast<std::ptrdiff_t>(index));
}

bool ReverseMap::overlaps(std::uint64_t offset, std::uint64_t length) const {
    CHECK(is_place(offset, length));
    const auto& segment = segment_of(offset);
    const auto index = find(segment, page_in_segment(offset));
    return index < segment.records.size() &&
           segment.records[index].start < page_in_segment(offset) + length / kPageBytes;
}

bool ReverseMap::holds(const Extent& run) const {
    CHECK(is_place(run.device_offset, run.length));
    const auto& segment = segment_of(run.device_offset);
    const auto page = page_in_segment(run.device_offset);
    const auto index = find(segment, page);
    if (index == segment.records.size() || segment.records[index].start > page) return false;
    const auto& record = segment.records[index];
    const auto skipped = page - record.start;
    return record.inode == run.inode && record.replica == run.replica &&
           (record.file_page + skipped) * kPageBytes == run.file_offset &&
           run.length / kPageBytes <= record.pages - skipped;
}

void ReverseMap::add(const Extent& extent) {
    CHECK(!overlaps(extent.device_offset, extent.length) && extent.replica < kReplicasMax);
    auto& segment = segment_of(extent.device_offset);
    auto& records = segment.records;
    Record record;
    record.start = page_in_segment(extent.device_offset);
    record.pages = static_cast<std::uint32_t>(extent.length / kPageBytes);
    record.inode = extent.inode;
    record.file_page = (extent.file_offset / kPageBytes) & kFilePageBits;
    record.replica = extent.replica & kReplicaBits;
    data_bytes_ += extent.length;
    auto index = find(segment, record.start);
    if (index < records.size() && record.continues_in(records[index])) {
        record.pages += records[index].pages;
        erase(segment, index);
        --extent_count_;
    }
    if (index > 0 && records[index - 1].continues_in(record)) {
        records[index - 1].pages += record.pages;
        return;
    }
    insert(segment, index, record);
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
    left.pages = page - left.start;
    right.pages -= left.pages + pages;
    right.file_page = (right.file_page + left.pages + pages) & kFilePageBits;
    right.start = page + pages;
    data_bytes_ -= run.length;
    if (left.pages > 0 && right.pages > 0) {
        segment.records[index] = left;
        insert(segment, index + 1, right);
        ++extent_count_;
    } else if (left.pages > 0 || right.pages > 0) {
        segment.records[index] = left.pages > 0 ? left : right;
    } else {
        erase(segment, index);
        --extent_count_;
    }
}

std::vector<Extent> ReverseMap::extents(SegmentNo segment_no) const {
    const auto& segment = at(segment_no);
    const auto base = segment_no.raw() * segment_bytes_;
    std::vector<Extent> all;
    all.reserve(segment.records.size());
    for (const auto& record : segment.records)
        all.push_back({record.inode, record.file_page * kPageBytes, device_,
                       base + record.start * kPageBytes, record.pages * kPageBytes,
                       static_cast<std::uint32_t>(record.replica)});
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
        for (auto i = find(segment, page_in_segment(begin)); i < segment.records.size(); ++i) {
            const auto& record = segment.records[i];
            const auto whole =
                DeviceRange::of_length(base + record.start * kPageBytes, record.pages * kPageBytes);
            if (whole.begin() >= end) break;
            const auto part = whole.intersect(DeviceRange(begin, end));
            const auto file_offset = record.file_page * kPageBytes + (part.begin() - whole.begin());
            into.push_back({part, false, record.inode,
                            FileRange::of_length(file_offset, part.length()),
                            static_cast<std::uint32_t>(record.replica)});
        }
        begin = end;
    }
}

}  // namespace refault::store
