// Framing of the metadata log's stream. Format: docs/format.md.
//
//   header   magic "RFMETA01" | u32 version | uuid of the pool | u64 epoch | u32 crc32c of all
//   before it record   u32 crc32c | u32 payload length | u64 sequence | u8 kind | payload
//
// A record's checksum begins with the header's, goes on with the record's offset in the stream, and
// ends with all that stands behind it. So a record is valid in one pool, one epoch and one place
// alone: what an earlier owner of a segment left behind, or what a payload quotes, never passes for
// a record, and a stream with a damaged header stays readable. A LogFrame is immutable: any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/codec.h"
#include "base/uuid.h"

namespace refault::store {

// What is written, and the oldest that is read: each version has more operations, 3 also more types
// of files, than the one before it, which is a part of it otherwise.
inline constexpr std::uint32_t kLogVersion = 4;
inline constexpr std::uint32_t kLogVersionOldest = 2;
inline constexpr std::size_t kLogHeaderBytes = 8 + 4 + 16 + 8 + 4;
inline constexpr std::size_t kRecordHeadBytes = 4 + 4 + 8 + 1;
inline constexpr std::uint32_t kRecordPayloadMax = 64u << 20;
// A jump above this is garbage. Numbers are skipped one for each append that failed on every copy.
inline constexpr std::uint64_t kSequenceGapMax = 1ull << 32;
// Bounds what reading damaged media can make the reader allocate.
inline constexpr std::uint64_t kStreamBytesMax = 4ull << 30;

enum class RecordKind : std::uint8_t { Checkpoint = 1, CheckpointEnd = 2, Transaction = 3 };

struct LogRecord {
    std::uint64_t sequence = 0;
    RecordKind kind = RecordKind::Transaction;
    std::span<const std::uint8_t> payload;
    std::size_t length = 0;  // of the whole record
};

// The framing of one epoch of one pool.
class LogFrame {
  public:
    LogFrame(const base::Uuid& pool, std::uint64_t epoch, std::uint32_t version = kLogVersion);

    const base::Bytes& header() const noexcept { return header_; }
    // Corrupt, or NotSupported when the stream is of a version that is not read.
    base::Status check_header(std::span<const std::uint8_t> stream) const;

    // Adds to `out` a record that will stand at `offset` of the stream.
    // Precondition: a sequence above 0, a payload of at most kRecordPayloadMax.
    void append(base::Bytes& out, std::uint64_t offset, std::uint64_t sequence, RecordKind kind,
                std::span<const std::uint8_t> payload) const;
    // The valid record at `offset` of the stream with a sequence above `sequence_above`, if there
    // is one.
    std::optional<LogRecord> parse(std::span<const std::uint8_t> stream, std::uint64_t offset,
                                   std::uint64_t sequence_above) const;

  private:
    std::uint32_t seed_at(std::uint64_t offset) const;

    base::Bytes header_;
    std::uint32_t seed_ = 0;
};

}  // namespace refault::store
