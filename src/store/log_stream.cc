// From segments to a stream:
//
//   segment    |data|~~~~~|data|~hole~|     |data|!!!!|~hole~|
//   stream     [ data     | data  0000 ...  | data 0000)         ends behind the last byte that is
//   there unreadable                                    [!!!)
#include "store/log_stream.h"

#include <algorithm>

#include "base/units.h"
#include "store/log_record.h"

namespace refault::store {

using base::DeviceRange;
using base::Error;

namespace {

class StreamReader {
  public:
    StreamReader(const device::Device& device, LogStream& stream)
        : device_(device), stream_(stream) {}

    // `at` is where the segment begins in the stream.
    void read_segment(base::SegmentNo segment, std::uint64_t at) {
        base_ = device_.segment_range(segment).begin() - at;
        for (auto rest = device_.segment_range(segment); !rest.empty();) {
            const auto data = device_.next_data(rest);
            if (!data) return give_up(rest, data.error());
            if (!*data) return;
            read_part(**data);
            rest = DeviceRange((*data)->end(), rest.end());
        }
    }

  private:
    // The stream's offset is the device's less base_, in arithmetic modulo 2^64.
    std::uint64_t in_stream(std::uint64_t device_offset) const { return device_offset - base_; }

    void read_part(DeviceRange part) {
        const auto end = in_stream(part.end());
        if (stream_.bytes.size() < end) stream_.bytes.resize(end);
        if (read(part).ok()) return;
        for (auto at = part.begin(); at < part.end();) {
            const DeviceRange page(at, std::min(part.end(), base::align_down(at, base::kPageBytes) +
                                                                base::kPageBytes));
            if (const auto done = read(page); !done) give_up(page, done.error());
            at = page.end();
        }
    }

    base::Status read(DeviceRange range) {
        return device_.read(
            range.begin(),
            std::span(stream_.bytes).subspan(in_stream(range.begin()), range.length()));
    }

    void give_up(DeviceRange range, const Error& error) {
        const auto begin = in_stream(range.begin());
        auto& unreadable = stream_.unreadable;
        if (!unreadable.empty() && unreadable.back().end() == begin)
            unreadable.back() = StreamRange(unreadable.back().begin(), begin + range.length());
        else
            unreadable.push_back(StreamRange::of_length(begin, range.length()));
        if (stream_.note.empty()) stream_.note = error.message();
    }

    const device::Device& device_;
    LogStream& stream_;
    std::uint64_t base_ = 0;
};

}  // namespace

bool LogStream::is_known_from(std::uint64_t offset) const {
    return unreadable.empty() || unreadable.back().end() <= offset;
}

LogStream read_log_stream(const device::Device& device, const device::Label& label) {
    LogStream stream;
    stream.device = device.name();
    StreamReader reader(device, stream);
    std::uint64_t at = 0;
    for (const auto segment : label.metadata_segments) {
        // The label of a device that was made with another geometry would send us beyond its end.
        if (segment.raw() >= device.segment_count() ||
            at + device.segment_bytes() > kStreamBytesMax) {
            stream.unreadable.push_back(StreamRange(at, UINT64_MAX));
            if (stream.note.empty())
                stream.note = "its label lists metadata beyond the device or above " +
                              base::format_size(kStreamBytesMax);
            break;
        }
        reader.read_segment(segment, at);
        at += device.segment_bytes();
    }
    return stream;
}

}  // namespace refault::store
