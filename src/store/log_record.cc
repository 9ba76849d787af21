// Encoding and recognising records.
#include "store/log_record.h"

#include <cstring>

#include "base/crc32c.h"

namespace refault::store {

using base::Code;
using base::Decoder;
using base::Encoder;
using base::Error;

namespace {
constexpr std::uint8_t kMagic[8] = {'R', 'F', 'M', 'E', 'T', 'A', '0', '1'};
}

base::Bytes encode_log_header(const base::Uuid& pool, std::uint64_t epoch) {
    Encoder out;
    out.raw(kMagic).u32(kLogVersion).raw(pool.bytes).u64(epoch);
    out.u32(base::crc32c(out.data()));
    return out.take();
}

base::Status check_log_header(std::span<const std::uint8_t> bytes, const base::Uuid& pool, std::uint64_t epoch) {
    if (bytes.size() < kLogHeaderBytes) return Error(Code::Corrupt, "the metadata log is too short for its header");
    const auto header = bytes.first(kLogHeaderBytes);
    if (std::memcmp(header.data(), kMagic, sizeof kMagic) != 0) return Error(Code::Corrupt, "the metadata log has no header");
    Decoder crc(header.last(4));
    if (crc.u32() != base::crc32c(header.first(kLogHeaderBytes - 4)))
        return Error(Code::Corrupt, "the metadata log's header fails its checksum");
    Decoder in(header.subspan(sizeof kMagic));
    if (in.u32() > kLogVersion)
        return Error(Code::NotSupported, "the metadata log was made by a newer refault; use that one");
    const auto uuid = in.raw(pool.bytes.size());
    if (std::memcmp(uuid.data(), pool.bytes.data(), pool.bytes.size()) != 0)
        return Error(Code::Corrupt, "the metadata log belongs to another pool");
    if (in.u64() != epoch) return Error(Code::Corrupt, "the metadata log is of another epoch than its label says");
    return {};
}

void append_record(base::Bytes& out, std::uint64_t sequence, RecordKind kind, std::span<const std::uint8_t> payload) {
    Encoder body;
    body.u64(sequence).u8(static_cast<std::uint8_t>(kind)).raw(payload);
    Encoder head;
    head.u32(static_cast<std::uint32_t>(payload.size())).u32(base::crc32c(body.data()));
    out.insert(out.end(), head.data().begin(), head.data().end());
    out.insert(out.end(), body.data().begin(), body.data().end());
}

std::optional<LogRecord> parse_record(std::span<const std::uint8_t> bytes) {
    if (bytes.size() < kRecordHeadBytes) return std::nullopt;
    Decoder in(bytes);
    const auto payload_length = in.u32();
    const auto crc = in.u32();
    if (payload_length > kRecordPayloadMax || payload_length > bytes.size() - kRecordHeadBytes) return std::nullopt;
    LogRecord record;
    record.length = kRecordHeadBytes + payload_length;
    record.sequence = in.u64();
    const auto kind = in.u8();
    if (record.sequence == 0 || kind < 1 || kind > 3) return std::nullopt;
    if (crc != base::crc32c(bytes.subspan(8, record.length - 8))) return std::nullopt;
    record.kind = static_cast<RecordKind>(kind);
    record.payload = bytes.subspan(kRecordHeadBytes, payload_length);
    return record;
}

}  // namespace refault::store
