// Reading the history of a pool from whatever copies there are. All copies of one epoch are the
// same stream, so at each place the record may come from any copy that has it whole:
//
//   copy 1   [header][c][c][end][t5][t6][##damaged##][t8]
//   copy 2   [header][c][c][end][t5][t6][    t7     ][t8][t9]
//   taken            [c][c][end][t5][t6][    t7     ][t8][t9]
//
// Where no copy has a record the history ends. It is the torn end of the last write if nothing
// valid follows on any copy and at least one copy could be read there; else records are lost, which
// is Corrupt. docs/format.md says more.
#include <algorithm>
#include <functional>
#include <map>

#include "store/log_record.h"
#include "store/log_stream.h"
#include "store/metadata_log.h"

namespace refault::store {

using base::Bytes;
using base::Code;
using base::Error;

namespace {

void add_note(std::string& notes, const std::string& note) {
    if (!notes.empty()) notes += "; ";
    notes += note;
}

// The copies of one epoch, read as one.
class EpochReader {
  public:
    EpochReader(const base::Uuid& pool, std::uint64_t epoch)
        : pool_(pool), epoch_(epoch), frame_(pool, epoch) {}

    Status add(LogStream stream) {
        if (!has_header_) frame_ = frame_of(stream);
        const auto header = frame_.check_header(stream.bytes);
        if (!header && header.error().code() == Code::NotSupported)
            return header.error().within(stream.device);
        if (!header) add_note(notes_, stream.device + ": " + header.error().message());
        if (!stream.note.empty()) add_note(notes_, stream.device + ": " + stream.note);
        has_header_ = has_header_ || header.ok();
        copies_.push_back({std::move(stream), 0, 0});
        return {};
    }

    // True when nothing on any copy shows that this epoch was ever written: the segments were given
    // back already. Without a header the records say which version they are of.
    bool is_void() {
        if (has_header_) return false;
        for (auto version = kLogVersion; version >= kLogVersionOldest; --version) {
            frame_ = LogFrame(pool_, epoch_, version);
            if (has_record_from(kLogHeaderBytes)) return false;
        }
        return true;
    }
    const std::string& notes() const noexcept { return notes_; }

    Result<MetadataLog::History> read() {
        MetadataLog::History history;
        history.epoch = epoch_;
        while (const auto record = next()) {
            const bool is_transaction = record->kind == RecordKind::Transaction;
            if (is_transaction != is_complete_)
                return damaged("record " + std::to_string(record->sequence) +
                               " is not of the kind that belongs there");
            if (record->kind == RecordKind::CheckpointEnd) {
                is_complete_ = true;
                continue;
            }
            auto& into = is_transaction ? history.transactions : history.checkpoint;
            into.emplace_back(record->payload.begin(), record->payload.end());
        }
        RETURN_IF_ERROR(check_end());
        note_lacks();
        history.notes = notes_;
        return history;
    }

  private:
    struct CopyState {
        LogStream stream;
        std::uint64_t lacks_count = 0;
        std::uint64_t lacks_first = 0;
    };

    LogFrame frame_of(const LogStream& stream) const {
        for (auto version = kLogVersion; version > kLogVersionOldest; --version)
            if (LogFrame frame(pool_, epoch_, version); frame.check_header(stream.bytes))
                return frame;
        return LogFrame(pool_, epoch_, kLogVersionOldest);
    }

    // Takes the record at the present place. Where two copies differ, one holds an append that
    // failed on every copy and could not be undone; its number was not used again, so the higher
    // one is the record that was acknowledged.
    std::optional<LogRecord> next() {
        std::optional<LogRecord> best;
        std::vector<std::uint64_t> found;
        for (const auto& copy : copies_) {
            const auto record = frame_.parse(copy.stream.bytes, at_, sequence_);
            found.push_back(record ? record->sequence : 0);
            if (record && (!best || record->sequence > best->sequence)) best = record;
        }
        if (!best) return std::nullopt;
        for (std::size_t i = 0; i < copies_.size(); ++i)
            if (found[i] != best->sequence && ++copies_[i].lacks_count == 1)
                copies_[i].lacks_first = best->sequence;
        at_ += best->length;
        sequence_ = best->sequence;
        return best;
    }

    Status check_end() const {
        if (!is_complete_) return damaged("no copy has its whole checkpoint");
        if (has_record_from(at_))
            return damaged("no copy has what follows record " + std::to_string(sequence_));
        const bool is_known =
            std::any_of(copies_.begin(), copies_.end(),
                        [&](const CopyState& copy) { return copy.stream.is_known_from(at_); });
        if (!is_known)
            return damaged("no copy can be read behind record " + std::to_string(sequence_));
        return {};
    }

    bool has_record_from(std::uint64_t from) const {
        for (const auto& [stream, count, first] : copies_)
            for (auto at = from; at + kRecordHeadBytes <= stream.bytes.size(); ++at)
                if (frame_.parse(stream.bytes, at, sequence_)) return true;
        return false;
    }

    void note_lacks() {
        for (const auto& [stream, count, first] : copies_) {
            if (count > 0)
                add_note(notes_, stream.device + ": " + std::to_string(count) +
                                     " records from number " + std::to_string(first) +
                                     " on are missing or damaged, taken from another copy");
            const std::span<const std::uint8_t> bytes(stream.bytes);
            const auto tail = bytes.subspan(std::min<std::uint64_t>(at_, bytes.size()));
            if (std::any_of(tail.begin(), tail.end(), [](std::uint8_t byte) { return byte != 0; }))
                add_note(notes_, stream.device + ": a torn record behind number " +
                                     std::to_string(sequence_) + " was cut off");
        }
    }

    Error damaged(const std::string& how) const {
        std::string text =
            "the metadata log of epoch " + std::to_string(epoch_) + " is damaged: " + how;
        if (!notes_.empty()) text += " (" + notes_ + ")";
        return Error(Code::Corrupt, text);
    }

    const base::Uuid pool_;
    const std::uint64_t epoch_;
    LogFrame frame_;  // of the version that the epoch was written in
    std::vector<CopyState> copies_;
    std::string notes_;
    bool has_header_ = false;
    bool is_complete_ = false;
    std::uint64_t at_ = kLogHeaderBytes;
    std::uint64_t sequence_ = 0;  // of the last record taken
};

}  // namespace

Result<MetadataLog::History> MetadataLog::read_longest(std::span<const DevicePtr> members) {
    std::map<std::uint64_t, EpochReader, std::greater<>> epochs;  // the newest first
    std::string notes;
    std::optional<device::Label> first;
    for (const auto& member : members) {
        const auto label = member->read_label();
        if (!label && label.error().code() == Code::NotSupported)
            return label.error().within(member->name());
        if (!label) {
            add_note(notes, member->name() + ": " + label.error().message());
            continue;
        }
        if (label->state != device::LabelState::Member || label->metadata_segments.empty())
            continue;
        if (first && first->pool != label->pool)
            return Error(Code::Invalid,
                         "devices " + first->name + " and " + label->name +
                             " belong to different pools; give the devices of one pool");
        if (!first) first = *label;
        auto& reader = epochs.try_emplace(label->metadata_epoch, label->pool, label->metadata_epoch)
                           .first->second;
        RETURN_IF_ERROR(reader.add(read_log_stream(*member, *label)));
    }
    for (auto& [epoch, reader] : epochs) {
        if (!reader.is_void()) {
            auto history = reader.read();
            if (!history) return history;
            if (!notes.empty()) add_note(history->notes, notes);
            return history;
        }
        add_note(notes,
                 "nothing is left of epoch " + std::to_string(epoch) + " (" + reader.notes() + ")");
    }
    return Error(Code::Corrupt, "no device has a readable metadata log: " +
                                    (notes.empty() ? "no label lists one" : notes) +
                                    "; give all devices of the pool");
}

}  // namespace refault::store
