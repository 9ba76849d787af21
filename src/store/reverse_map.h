// The reverse map of one device: device range to (inode, file offset, replica), and the owners of
// its segments.
//
//   segments   [ owner | records by start: page 0, 8, 9, 40 .. ]
//
// A lookup is one array index and one search that begins where the record would be if all were of
// one length: it ends after a step or two, in the cache line of the record itself. Numbers count
// pages of 4 KiB: segments have at most 1 GiB. Invariants: records of a segment do not overlap and
// only lie where it has an owner that may have them; no two could be joined. Not thread-safe: the
// store's lock.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "store/types.h"

namespace refault::store {

class ReverseMap {
  public:
    ReverseMap(DeviceId device, std::uint64_t segment_bytes, std::uint32_t segment_count);

    std::uint64_t segment_bytes() const noexcept { return segment_bytes_; }
    std::uint32_t segment_count() const noexcept {
        return static_cast<std::uint32_t>(segments_.size());
    }
    std::uint64_t capacity_bytes() const noexcept { return segment_bytes_ * segments_.size(); }
    // True for a non-empty page-aligned range within one segment of the device.
    bool is_place(std::uint64_t offset, std::uint64_t length) const noexcept;

    // Precondition for all that take a segment: below segment_count().
    const std::optional<SegmentOwner>& owner(SegmentNo segment) const { return at(segment).owner; }
    void set_owner(SegmentNo segment, const SegmentOwner& owner);
    void clear_owner(SegmentNo segment);
    std::size_t record_count(SegmentNo segment) const { return at(segment).records.size(); }
    // The segment's extents, ascending.
    std::vector<Extent> extents(SegmentNo segment) const;

    // Precondition for those that take an extent: is_place(); for add: !overlaps(); for cut:
    // holds().
    bool overlaps(std::uint64_t offset, std::uint64_t length) const;
    bool holds(const Extent& run) const;
    void add(const Extent& extent);
    void cut(const Extent& run);

    // Appends who has bytes in the range, ascending; the range may reach beyond the device.
    void locate(DeviceRange range, std::vector<Located>& into) const;

    std::uint64_t data_bytes() const noexcept { return data_bytes_; }
    std::uint64_t metadata_segments() const noexcept { return metadata_segments_; }
    std::uint64_t extent_count() const noexcept { return extent_count_; }

  private:
    struct Record {
        std::uint32_t start = 0;  // page in the segment
        std::uint32_t pages = 0;
        InodeNo inode;
        std::uint64_t file_page : 56 = 0;
        std::uint64_t replica : 8 = 0;

        std::uint32_t end() const { return start + pages; }
        bool continues_in(const Record& next) const {
            return end() == next.start && inode == next.inode && replica == next.replica &&
                   file_page + pages == next.file_page;
        }
    };
    struct Segment {
        std::optional<SegmentOwner> owner;
        std::vector<Record> records;
    };

    const Segment& at(SegmentNo segment) const;
    Segment& at(SegmentNo segment);
    Segment& segment_of(std::uint64_t offset) { return segments_[offset / segment_bytes_]; }
    const Segment& segment_of(std::uint64_t offset) const {
        return segments_[offset / segment_bytes_];
    }
    std::uint32_t page_in_segment(std::uint64_t offset) const;
    // The first record that ends behind `page`.
    static std::size_t find(const Segment& segment, std::uint32_t page);
    static void insert(Segment& segment, std::size_t index, const Record& record);
    static void erase(Segment& segment, std::size_t index);

    const DeviceId device_;
    const std::uint64_t segment_bytes_;
    std::vector<Segment> segments_;
    std::uint64_t data_bytes_ = 0;
    std::uint64_t metadata_segments_ = 0;
    std::uint64_t extent_count_ = 0;
};

}  // namespace refault::store
