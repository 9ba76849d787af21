// Appending transactions, and what becomes of a copy that cannot take one.
#include "store/metadata_log.h"

#include <algorithm>

#include "base/log.h"

namespace refault::store {

using base::Bytes;
using base::Code;
using base::DeviceId;
using base::DeviceRange;
using base::Error;
using base::log_line;
using base::LogLevel;

namespace {

// A log shorter than this is not worth a checkpoint.
constexpr std::uint64_t kLogBytesMin = 1 << 20;

bool contains(const std::vector<DeviceId>& ids, DeviceId id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// Calls action(place on the device) for each segment's part of [begin, end) of a stream.
template <typename Action>
Status for_each_part(const device::Device& device, const std::vector<base::SegmentNo>& segments,
                     std::uint64_t begin, std::uint64_t end, Action action) {
    const auto segment_bytes = device.segment_bytes();
    while (begin < end) {
        const auto index = begin / segment_bytes;
        CHECK(index < segments.size());
        const auto length = std::min(end, (index + 1) * segment_bytes) - begin;
        const auto at = device.segment_range(segments[index]).begin() + begin % segment_bytes;
        RETURN_IF_ERROR(action(DeviceRange::of_length(at, length)));
        begin += length;
    }
    return {};
}

}  // namespace

Status MetadataLog::append(std::span<const std::uint8_t> transaction) {
    if (transaction.size() > kRecordPayloadMax)
        return Error(Code::Invalid,
                     "a change of the metadata is too large for the log; make it in smaller steps");
    if (streams_.empty())
        return Error(Code::Io, "no copy of the metadata can be written; add a device to the pool");
    record_.clear();
    // The number is spent even if the append fails: copies that could not be wiped keep a record of
    // this number.
    frame_->append(record_, end_offset_, next_sequence_++, RecordKind::Transaction, transaction);
    std::optional<Error> failure;
    DeviceIds lost;
    for (auto& stream : streams_) {
        auto appended = append_to(stream, record_);
        if (appended) continue;
        // Lack of space is what the caller can do something about.
        if (!failure || appended.error().code() == Code::NoSpace) failure = appended.error();
        lost.push_back(stream.copy.id);
    }
    if (lost.size() == streams_.size()) {
        undo_append();
        return failure->within("metadata log");
    }
    if (!lost.empty()) retire(lost, *failure);
    end_offset_ += record_.size();
    return {};
}

Status MetadataLog::append_to(Stream& stream, std::span<const std::uint8_t> record) {
    const auto end = end_offset_ + record.size();
    if (end > kStreamBytesMax)
        return Error(Code::NoSpace, "the metadata log is full until its next checkpoint");
    RETURN_IF_ERROR(grow(stream, end));
    if (stream.listed_count < stream.segments.size()) {
        // Each new file must have its size on the medium: a short one counts as damaged.
        auto& device = *stream.copy.device;
        for (auto i = stream.listed_count; i < stream.segments.size(); ++i)
            RETURN_IF_ERROR(device.sync(device.segment_range(stream.segments[i]),
                                        device::DurableWrite::LogSegmentMake));
        RETURN_IF_ERROR(list_in_label(stream, epoch_));
    }
    return write_at(stream, end_offset_, record, device::DurableWrite::Journal);
}

// No copy has acknowledged the record, but any of them may have it, or a part of it. Copies that
// can be wiped go on; if there is none, the copies stay on media as they are: with the record or
// without, both are right.
void MetadataLog::undo_append() {
    DeviceIds lost;
    std::optional<Error> failure;
    for (const auto& stream : streams_) {
        const auto wiped = wipe(stream, end_offset_, end_offset_ + record_.size());
        if (wiped) continue;
        failure = wiped.error();
        lost.push_back(stream.copy.id);
    }
    if (!lost.empty()) retire(lost, *failure);
}

void MetadataLog::retire(const DeviceIds& lost, const Error& why) {
    const bool is_any_left = lost.size() < streams_.size();
    std::vector<Stream> left;
    for (auto& stream : streams_) {
        if (!contains(lost, stream.copy.id)) {
            left.push_back(std::move(stream));
            continue;
        }
        log_line(LogLevel::Error, "the metadata copy on device " + stream.copy.device->name() +
                                      " is lost: " + why.message());
        failed_.push_back(stream.copy.id);
        // The last copies are all that a later open can find. Else a label that lists nothing is
        // the best warning of a copy that lags; if it cannot be written, the copy is at least
        // shorter than the others.
        if (is_any_left && clear_label(stream.copy))
            give_back(stream);
        else
            retired_.push_back(std::move(stream));
    }
    streams_ = std::move(left);
}

Status MetadataLog::grow(Stream& stream, std::uint64_t length) {
    while (stream.segments.size() * stream.copy.device->segment_bytes() < length) {
        auto segment = space_.take(stream.copy.id);
        if (!segment) return segment.error();
        stream.segments.push_back(*segment);
    }
    return {};
}

Status MetadataLog::write_at(Stream& stream, std::uint64_t offset,
                             std::span<const std::uint8_t> bytes, device::DurableWrite row) {
    auto& device = *stream.copy.device;
    return for_each_part(
        device, stream.segments, offset, offset + bytes.size(), [&](DeviceRange part) -> Status {
            RETURN_IF_ERROR(device.write(part.begin(), bytes.first(part.length()), row));
            bytes = bytes.subspan(part.length());
            return device.sync(part, row);
        });
}

Status MetadataLog::wipe(const Stream& stream, std::uint64_t begin, std::uint64_t end) {
    auto& device = *stream.copy.device;
    end = std::min(end, stream.segments.size() * device.segment_bytes());
    return for_each_part(device, stream.segments, begin, end, [&](DeviceRange part) -> Status {
        RETURN_IF_ERROR(device.punch(part, device::DurableWrite::JournalUndo));
        return device.sync(part, device::DurableWrite::JournalUndo);
    });
}

Status MetadataLog::list_in_label(Stream& stream, std::uint64_t epoch) {
    auto label = stream.copy.device->label();
    // The first log of a pool that takes the device over: the device is its own with this label.
    if (label.pool != pool_) {
        label.pool = pool_;
        ++label.generation;
    }
    label.metadata_epoch = epoch;
    label.metadata_segments = stream.segments;
    RETURN_IF_ERROR(stream.copy.device->write_label(label));
    stream.listed_count = stream.segments.size();
    return {};
}

Status MetadataLog::clear_label(const Copy& copy) {
    auto label = copy.device->label();
    label.metadata_epoch = 0;
    label.metadata_segments.clear();
    auto cleared = copy.device->write_label(label);
    if (!cleared)
        log_line(LogLevel::Warning,
                 "device " + copy.device->name() +
                     " keeps an outdated copy of the metadata: " + cleared.error().message());
    return cleared;
}

void MetadataLog::give_back(const Stream& stream) {
    for (const auto segment : stream.segments) space_.give_back(stream.copy.id, segment);
}

void MetadataLog::give_back(const std::vector<Stream>& streams) {
    for (const auto& stream : streams) give_back(stream);
}

std::uint64_t MetadataLog::log_bytes() const noexcept {
    return end_offset_ - checkpoint_bytes_;
}

std::uint64_t MetadataLog::checkpoint_bytes() const noexcept {
    return checkpoint_bytes_;
}

bool MetadataLog::wants_checkpoint() const noexcept {
    return log_bytes() > std::max(kLogBytesMin, 2 * checkpoint_bytes_);
}

std::vector<DeviceId> MetadataLog::copies() const {
    DeviceIds ids;
    for (const auto& stream : streams_) ids.push_back(stream.copy.id);
    return ids;
}

std::vector<DeviceId> MetadataLog::failed_copies() const {
    return failed_;
}

void MetadataLog::readmit(DeviceId device) {
    std::erase(failed_, device);
}

}  // namespace refault::store
