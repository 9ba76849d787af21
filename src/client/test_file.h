// For tests: files of a test daemon, in memfds ("segments"), in parts of a fixed size. Not
// thread-safe.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/range.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "sys/file.h"

namespace refault::client::testing {

using base::FileRange;
using base::UniqueFd;

[[noreturn]] inline void give_up(const std::string& what) {
    std::fprintf(stderr, "test daemon: %s\n", what.c_str());
    std::abort();
}
inline void must(const base::Status& status) {
    if (!status) give_up(status.error().message());
}
template <typename T>
T must(base::Result<T> result) {
    if (!result) give_up(result.error().message());
    return std::move(*result);
}

// Handed out as one place each; neighbours in one segment are for the client to merge.
inline constexpr std::uint64_t kPartBytes = 64 * 1024;
inline constexpr const char* kSegmentName = "refault-test-segment";

struct Segment {
    explicit Segment(std::uint64_t size_bytes)
        : writable(::memfd_create(kSegmentName, MFD_CLOEXEC)),
          read_only(::open(("/proc/self/fd/" + std::to_string(writable.get())).c_str(),
                           O_RDONLY | O_CLOEXEC)) {
        must(sys::set_size(writable.get(), size_bytes));
        if (!read_only) give_up("open a segment for reading");
    }
    UniqueFd writable;
    UniqueFd read_only;
};

struct Part {
    FileRange range;
    std::shared_ptr<Segment> segment;
    std::uint64_t segment_offset = 0;

    std::uint64_t offset_of(std::uint64_t file_offset) const {
        return segment_offset + (file_offset - range.begin());
    }
};

class TestFile {
  public:
    std::uint64_t size_bytes() const { return size_bytes_; }
    const std::vector<Part>& parts() const { return parts_; }  // ascending
    const Part& part(std::uint64_t offset) const {
        const auto index = offset / kPartBytes;
        if (index >= parts_.size()) give_up("no part at this offset");
        return parts_[index];
    }

    // Returns the range whose places have changed.
    FileRange resize(std::uint64_t size_bytes) {
        const auto old_end = base::align_up(size_bytes_, kPartBytes);
        const auto new_end = base::align_up(size_bytes, kPartBytes);
        size_bytes_ = size_bytes;
        if (new_end < old_end) {
            parts_.resize(new_end / kPartBytes);
        } else if (new_end > old_end) {
            auto segment = std::make_shared<Segment>(new_end - old_end);
            for (auto at = old_end; at < new_end; at += kPartBytes)
                parts_.push_back({FileRange::of_length(at, kPartBytes), segment, at - old_end});
        }
        return {std::min(old_end, new_end), std::max(old_end, new_end)};
    }

    // Copies whole parts to a new segment and punches the old place.
    void move(FileRange range) {
        auto target = std::make_shared<Segment>(range.length());
        for (auto& part : parts_) {
            if (!part.range.overlaps(range)) continue;
            if (!range.contains(part.range)) give_up("moves are of whole parts");
            const auto target_offset = part.range.begin() - range.begin();
            std::vector<std::uint8_t> buffer(kPartBytes);
            must(sys::copy_through(part.segment->writable.get(), part.segment_offset,
                                   target->writable.get(), target_offset, kPartBytes, buffer));
            punch(part);
            part.segment = target;
            part.segment_offset = target_offset;
        }
    }
    void punch(FileRange range) {
        for (const auto& part : parts_)
            if (part.range.overlaps(range)) punch(part);
    }

  private:
    static void punch(const Part& part) {
        must(sys::punch_hole(part.segment->writable.get(), part.segment_offset, kPartBytes));
    }

    std::uint64_t size_bytes_ = 0;
    std::vector<Part> parts_;
};

}  // namespace refault::client::testing
