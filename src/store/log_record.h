// Framing of the metadata log's stream. Format: docs/format.md. Stateless.
//
//   header   magic "RFMETA01" | u32 version | uuid of the pool | u64 epoch | u32 crc32c of all before it
//   record   u32 payload length | u32 crc32c of all behind it | u64 sequence | u8 kind | payload
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/codec.h"
#include "base/uuid.h"

namespace refault::store {

inline constexpr std::uint32_t kLogVersion = 1;
inline constexpr std::size_t kLogHeaderBytes = 8 + 4 + 16 + 8 + 4;
inline constexpr std::size_t kRecordHeadBytes = 4 + 4 + 8 + 1;
inline constexpr std::uint32_t kRecordPayloadMax = 64u << 20;

enum class RecordKind : std::uint8_t { Checkpoint = 1, CheckpointEnd = 2, Transaction = 3 };

base::Bytes encode_log_header(const base::Uuid& pool, std::uint64_t epoch);
// Corrupt, or NotSupported when it is of a newer version; checks pool and epoch as well.
base::Status check_log_header(std::span<const std::uint8_t> bytes, const base::Uuid& pool, std::uint64_t epoch);

void append_record(base::Bytes& out, std::uint64_t sequence, RecordKind kind, std::span<const std::uint8_t> payload);

struct LogRecord {
    std::uint64_t sequence = 0;
    RecordKind kind = RecordKind::Transaction;
    std::span<const std::uint8_t> payload;
    std::size_t length = 0;  // of the whole record
};
// The valid record at the beginning of `bytes`, if there is one.
std::optional<LogRecord> parse_record(std::span<const std::uint8_t> bytes);

}  // namespace refault::store
