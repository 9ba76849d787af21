// Checkpoints: from one epoch to the next.
//
//   write the new stream on every device   a crash, or a failure: the labels list the old epoch,
//   which stays in force switch the labels, one by one          a crash between two: both epochs
//   are complete and say the same clear the labels of copies that end, give the old segments back
//
// From the first label switched on the new epoch is the pool's history: a label that cannot be
// switched then costs that copy, not the checkpoint.
#include <algorithm>

#include "base/log.h"
#include "store/metadata_log.h"

namespace refault::store {

using base::Bytes;
using base::Code;
using base::DeviceId;
using base::Error;
using base::log_line;
using base::LogLevel;

namespace {

struct Image {
    Bytes bytes;
    std::uint64_t next_sequence = 1;
};

Result<Image> encode_image(const LogFrame& frame, std::span<const Bytes> payloads) {
    Image image{frame.header()};
    std::uint64_t total = image.bytes.size() + kRecordHeadBytes;
    for (const auto& payload : payloads) {
        if (payload.size() > kRecordPayloadMax)
            return Error(Code::Invalid, "a record of the checkpoint is too large for the log");
        total += kRecordHeadBytes + payload.size();
    }
    if (total > kStreamBytesMax)
        return Error(Code::NoSpace, "the metadata is too large for a checkpoint; remove files");
    image.bytes.reserve(total);
    for (const auto& payload : payloads)
        frame.append(image.bytes, image.bytes.size(), image.next_sequence++, RecordKind::Checkpoint,
                     payload);
    frame.append(image.bytes, image.bytes.size(), image.next_sequence++, RecordKind::CheckpointEnd,
                 {});
    return image;
}

template <typename Streams>
auto find_device(Streams& streams, DeviceId id) {
    return std::find_if(streams.begin(), streams.end(),
                        [&](const auto& stream) { return stream.copy.id == id; });
}

template <typename Streams>
bool has_device(const Streams& streams, DeviceId id) {
    return find_device(streams, id) != streams.end();
}

bool lists_epoch(const device::Device& device, std::uint64_t epoch) {
    const auto label = device.read_label();
    return label && label->metadata_epoch == epoch;
}

}  // namespace

Status MetadataLog::checkpoint(std::vector<Copy> copies, std::span<const Bytes> image,
                               std::uint64_t first_epoch) {
    CHECK(!copies.empty());
    const auto epoch = std::max(next_epoch_, first_epoch);
    const LogFrame frame(pool_, epoch);
    auto encoded = encode_image(frame, image);
    if (!encoded) return encoded.error();
    auto streams = write_new_streams(copies, encoded->bytes);
    if (!streams) return streams.error();

    next_epoch_ = epoch + 1;
    std::vector<Stream> listed;
    std::vector<Stream> unlisted;
    std::optional<Error> failure;
    for (auto& stream : *streams) {
        const auto done = list_in_label(stream, epoch);
        if (!done)
            failure = done.error().within("metadata on device " + stream.copy.device->name());
        (done ? listed : unlisted).push_back(std::move(stream));
    }
    if (listed.empty()) {
        keep_old_epoch(std::move(unlisted), epoch, *failure);
        return *failure;
    }
    leave_old_epoch(std::move(listed), std::move(unlisted));
    epoch_ = epoch;
    frame_.emplace(frame);
    next_sequence_ = encoded->next_sequence;
    end_offset_ = checkpoint_bytes_ = encoded->bytes.size();
    return {};
}

Result<std::vector<MetadataLog::Stream>> MetadataLog::write_new_streams(
    const std::vector<Copy>& copies, std::span<const std::uint8_t> bytes) {
    std::vector<Stream> streams;
    for (const auto& copy : copies) {
        CHECK(!has_device(streams, copy.id));
        auto& stream = streams.emplace_back(Stream{copy, {}, 0});
        auto written = grow(stream, bytes.size());
        if (written) written = write_at(stream, 0, bytes, device::DurableWrite::Checkpoint);
        if (!written) {
            give_back(streams);
            return written.error().within("metadata on device " + copy.device->name());
        }
    }
    return streams;
}

// No label could be switched for certain. Writing a label can fail after it was replaced, so the
// old state is written again. Where that fails too and the label reads back as the new one, the new
// stream is emptied: nothing of its epoch is found then. If not even that can be done, what is
// appended now could lose against the new epoch when the pool is opened, so nothing may be appended
// before the next checkpoint.
void MetadataLog::keep_old_epoch(std::vector<Stream> unlisted, std::uint64_t epoch,
                                 const Error& why) {
    bool may_append = true;
    DeviceIds lost;
    for (const auto& stream : unlisted) {
        const auto& device = *stream.copy.device;
        const auto old = find_device(streams_, stream.copy.id);
        const bool is_restored = old != streams_.end() ? list_in_label(*old, epoch_).ok()
                                                       : clear_label(stream.copy).ok();
        if (!is_restored && lists_epoch(device, epoch)) {
            const bool is_void =
                wipe(stream, 0, stream.segments.size() * device.segment_bytes()).ok();
            may_append = may_append && is_void;
            if (old != streams_.end()) lost.push_back(stream.copy.id);
        }
        give_back(stream);
    }
    if (!may_append) lost = copies();
    if (!lost.empty()) retire(lost, why);
}

void MetadataLog::leave_old_epoch(std::vector<Stream> listed, std::vector<Stream> unlisted) {
    std::vector<Stream> retired;
    failed_.clear();
    for (auto& stream : unlisted) {
        failed_.push_back(stream.copy.id);
        log_line(LogLevel::Error,
                 "device " + stream.copy.device->name() + " cannot take a copy of the metadata");
        if (clear_label(stream.copy))
            give_back(stream);
        else
            retired.push_back(std::move(stream));
    }
    streams_.insert(streams_.end(), std::make_move_iterator(retired_.begin()),
                    std::make_move_iterator(retired_.end()));
    for (const auto& old : streams_) {
        if (!has_device(listed, old.copy.id) &&
            std::find(failed_.begin(), failed_.end(), old.copy.id) == failed_.end())
            base::discard(clear_label(old.copy), "what it lists is of an older epoch and loses");
        give_back(old);
    }
    streams_ = std::move(listed);
    retired_ = std::move(retired);
}

}  // namespace refault::store
