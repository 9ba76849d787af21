// Reading the history of a pool from whatever copies there are. All copies of one epoch are the same stream, so at each
// position the record may come from any copy that has it whole:
//
//   copy 1   [header][c][c][end][t5][t6][##damaged##][t8]
//   copy 2   [header][c][c][end][t5][t6][    t7     ][t8][t9]
//   taken                        t5  t6      t7       t8  t9
#include <algorithm>
#include <map>

#include "store/log_record.h"
#include "store/metadata_log.h"

namespace refault::store {

using base::Bytes;
using base::Code;
using base::Error;

namespace {

struct CopyStream {
    std::string device;
    Bytes bytes;
};

Result<Bytes> read_stream(const device::Device& device, const device::Label& label) {
    Bytes bytes;
    for (const auto segment : label.metadata_segments) {
        // A stream is mostly holes at its end: read the data alone, the rest is zeros.
        const auto range = device.segment_range(segment);
        const auto at = bytes.size();
        auto rest = range;
        std::uint64_t end = 0;
        std::vector<std::pair<std::uint64_t, Bytes>> parts;
        while (!rest.empty()) {
            auto data = device.next_data(rest);
            if (!data) return data.error();
            if (!*data) break;
            Bytes part((*data)->length());
            RETURN_IF_ERROR(device.read((*data)->begin(), part));
            end = (*data)->end() - range.begin();
            parts.emplace_back((*data)->begin() - range.begin(), std::move(part));
            rest = base::DeviceRange((*data)->end(), range.end());
        }
        const bool is_last = segment == label.metadata_segments.back();
        bytes.resize(at + (is_last ? end : range.length()));
        for (const auto& [offset, part] : parts)
            std::copy(part.begin(), part.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at + offset));
    }
    return bytes;
}

// Finds a valid record of a later sequence behind a place where no copy has a valid one: then the place is damage, not
// the torn end of the last write.
bool has_later_record(const std::vector<CopyStream>& copies, std::size_t from, std::uint64_t sequence) {
    for (const auto& copy : copies) {
        const std::span<const std::uint8_t> bytes(copy.bytes);
        for (std::size_t at = from; at + kRecordHeadBytes <= bytes.size(); ++at) {
            if (bytes[at] == 0 && bytes[at + 1] == 0 && bytes[at + 2] == 0 && bytes[at + 3] == 0 &&
                bytes[at + 4] == 0 && bytes[at + 5] == 0)
                continue;  // holes
            const auto record = parse_record(bytes.subspan(at));
            if (record && record->sequence > sequence && record->sequence < sequence + (1u << 30)) return true;
        }
    }
    return false;
}

Result<MetadataLog::History> read_epoch(std::uint64_t epoch, const std::vector<CopyStream>& copies) {
    MetadataLog::History history;
    history.epoch = epoch;
    bool is_complete = false;
    std::size_t at = kLogHeaderBytes;
    for (std::uint64_t sequence = 1;; ++sequence) {
        std::optional<LogRecord> record;
        std::string damaged_on;
        for (const auto& copy : copies) {
            if (copy.bytes.size() <= at) continue;
            const auto found = parse_record(std::span(copy.bytes).subspan(at));
            if (found && found->sequence == sequence) record = record ? record : found;
            else damaged_on += (damaged_on.empty() ? "" : ", ") + copy.device;
        }
        if (!record) {
            if (has_later_record(copies, at, sequence))
                return Error(Code::Corrupt, "the metadata log is damaged at record " + std::to_string(sequence) +
                                                " of epoch " + std::to_string(epoch) +
                                                " on every copy, and more records follow it");
            if (!damaged_on.empty()) history.notes += "the end of the log after record " + std::to_string(sequence - 1) +
                                                      " was cut off (" + damaged_on + "); ";
            break;
        }
        if (!damaged_on.empty()) history.notes += "record " + std::to_string(sequence) + " was missing or damaged on " + damaged_on + "; ";
        Bytes payload(record->payload.begin(), record->payload.end());
        switch (record->kind) {
            case RecordKind::Checkpoint: history.checkpoint.push_back(std::move(payload)); break;
            case RecordKind::CheckpointEnd: is_complete = true; break;
            case RecordKind::Transaction: history.transactions.push_back(std::move(payload)); break;
        }
        at += record->length;
    }
    if (!is_complete)
        return Error(Code::Corrupt, "the checkpoint of epoch " + std::to_string(epoch) + " is incomplete on every copy");
    return history;
}

}  // namespace

Result<MetadataLog::History> MetadataLog::read_longest(std::span<const DevicePtr> members) {
    std::map<std::uint64_t, std::vector<CopyStream>, std::greater<>> epochs;  // the newest first
    std::string notes;
    for (const auto& member : members) {
        auto label = member->read_label();
        if (!label) {
            notes += member->name() + ": " + label.error().message() + "; ";
            continue;
        }
        if (label->metadata_segments.empty()) continue;
        auto bytes = read_stream(*member, *label);
        auto usable = bytes ? check_log_header(*bytes, label->pool, label->metadata_epoch) : Status(bytes.error());
        if (!usable && usable.error().code() == Code::NotSupported) return usable.error();
        if (usable) epochs[label->metadata_epoch].push_back({member->name(), std::move(*bytes)});
        else notes += member->name() + ": " + usable.error().message() + "; ";
    }
    std::string reasons = notes;
    for (const auto& [epoch, copies] : epochs) {
        auto history = read_epoch(epoch, copies);
        if (history) {
            history->notes = notes + history->notes;
            return history;
        }
        // An older epoch is whole but older: it may stand in only for one that was never finished.
        if (history.error().message().find("incomplete") == std::string::npos) return history;
        reasons += history.error().message() + "; ";
    }
    return Error(Code::Corrupt, "no device has a readable metadata log: " + (reasons.empty() ? "no copy found" : reasons));
}

}  // namespace refault::store
