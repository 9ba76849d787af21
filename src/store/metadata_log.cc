// Writing the metadata log.
#include "store/metadata_log.h"

#include <algorithm>
#include <optional>

#include "base/log.h"
#include "store/log_record.h"

namespace refault::store {

using base::Bytes;
using base::Code;
using base::Error;

namespace {
// A log shorter than this is not worth a checkpoint.
constexpr std::uint64_t kLogBytesMin = 1 << 20;
}  // namespace

Result<MetadataLog::Stream> MetadataLog::write_new_stream(const Copy& copy, std::span<const std::uint8_t> bytes) {
    Stream stream{copy, {}};
    if (auto written = write_at(stream, 0, bytes, /*updates_label=*/false); !written) {
        give_back(stream);
        return written.error();
    }
    return stream;
}

Status MetadataLog::write_at(Stream& stream, std::uint64_t offset, std::span<const std::uint8_t> bytes,
                             bool updates_label) {
    auto& device = *stream.copy.device;
    const auto segment_bytes = device.segment_bytes();
    bool has_grown = false;
    while (stream.segments.size() * segment_bytes < offset + bytes.size()) {
        auto segment = space_.take(stream.copy.id);
        if (!segment) return segment.error();
        stream.segments.push_back(*segment);
        has_grown = true;
    }
    if (has_grown && updates_label) RETURN_IF_ERROR(switch_label(stream, epoch_));
    while (!bytes.empty()) {
        const auto segment = stream.segments[offset / segment_bytes];
        const auto within = offset % segment_bytes;
        const auto part = bytes.first(std::min<std::uint64_t>(bytes.size(), segment_bytes - within));
        const auto at = device.segment_range(segment).begin() + within;
        RETURN_IF_ERROR(device.write(at, part));
        RETURN_IF_ERROR(device.sync(base::DeviceRange::of_length(at, part.size())));
        bytes = bytes.subspan(part.size());
        offset += part.size();
    }
    return {};
}

Status MetadataLog::switch_label(const Stream& stream, std::uint64_t epoch) {
    auto label = stream.copy.device->label();
    label.metadata_epoch = epoch;
    label.metadata_segments = stream.segments;
    return stream.copy.device->write_label(label);
}

void MetadataLog::give_back(const Stream& stream) {
    for (const auto segment : stream.segments) space_.give_back(stream.copy.id, segment);
}

void MetadataLog::drop_label(const Copy& copy) {
    auto label = copy.device->label();
    label.metadata_epoch = 0;
    label.metadata_segments.clear();
    if (auto written = copy.device->write_label(label); !written)
        base::log_line(base::LogLevel::Warning, "device " + copy.device->name() + " keeps an outdated metadata copy: " +
                                                    written.error().message());
}

Status MetadataLog::checkpoint(std::vector<Copy> copies, std::span<const Bytes> image, std::uint64_t first_epoch) {
    CHECK(!copies.empty());
    const std::uint64_t epoch = epoch_ == 0 ? first_epoch : epoch_ + 1;
    Bytes bytes = encode_log_header(pool_, epoch);
    std::uint64_t sequence = 1;
    for (const auto& payload : image) append_record(bytes, sequence++, RecordKind::Checkpoint, payload);
    append_record(bytes, sequence++, RecordKind::CheckpointEnd, {});

    std::vector<Stream> streams;
    for (const auto& copy : copies) {
        auto stream = write_new_stream(copy, bytes);
        if (!stream) {
            for (const auto& written : streams) give_back(written);
            return stream.error().within("metadata on device " + copy.device->name());
        }
        streams.push_back(std::move(*stream));
    }
    // From the first switched label on the new epoch is the pool's history: a label that cannot be switched now costs
    // that copy, not the checkpoint.
    std::vector<Stream> switched;
    std::vector<base::DeviceId> failed;
    std::optional<Error> failure;
    for (auto& stream : streams) {
        if (auto done = switch_label(stream, epoch); !done) {
            failure = done.error();
            failed.push_back(stream.copy.id);
            give_back(stream);
        } else {
            switched.push_back(std::move(stream));
        }
    }
    if (switched.empty()) return *failure;
    for (const auto& old : streams_) {
        const bool stays = std::any_of(switched.begin(), switched.end(),
                                       [&](const Stream& stream) { return stream.copy.id == old.copy.id; });
        if (!stays) drop_label(old.copy);
        give_back(old);
    }
    streams_ = std::move(switched);
    failed_ = std::move(failed);
    epoch_ = epoch;
    next_sequence_ = sequence;
    end_offset_ = checkpoint_bytes_ = bytes.size();
    return {};
}

Status MetadataLog::append(std::span<const std::uint8_t> transaction) {
    if (transaction.size() > kRecordPayloadMax) return Error(Code::Invalid, "a transaction is too large for the log");
    Bytes record;
    append_record(record, next_sequence_, RecordKind::Transaction, transaction);
    std::optional<Error> failure = streams_.empty() ? std::optional(Error(Code::Io, "no copy of the metadata is left")) : std::nullopt;
    std::vector<base::DeviceId> lost;
    for (auto& stream : streams_) {
        auto written = write_at(stream, end_offset_, record, /*updates_label=*/true);
        if (written) continue;
        failure = written.error();
        lost.push_back(stream.copy.id);
    }
    // On no copy: nothing has happened, and the copies stay in use.
    if (lost.size() == streams_.size()) return failure->within("metadata log");
    for (const auto id : lost) {
        base::log_line(base::LogLevel::Error, "a metadata copy is lost: " + failure->message());
        std::erase_if(streams_, [&](const Stream& stream) { return stream.copy.id == id; });
        failed_.push_back(id);
    }
    end_offset_ += record.size();
    ++next_sequence_;
    return {};
}

std::uint64_t MetadataLog::log_bytes() const noexcept { return end_offset_ - checkpoint_bytes_; }

std::uint64_t MetadataLog::checkpoint_bytes() const noexcept { return checkpoint_bytes_; }

bool MetadataLog::wants_checkpoint() const noexcept { return log_bytes() > std::max(kLogBytesMin, 2 * checkpoint_bytes_); }

std::vector<base::DeviceId> MetadataLog::copies() const {
    std::vector<base::DeviceId> ids;
    for (const auto& stream : streams_) ids.push_back(stream.copy.id);
    return ids;
}

std::vector<base::DeviceId> MetadataLog::failed_copies() const { return failed_; }

}  // namespace refault::store
