// Encoding and recognising records.
#include "store/log_record.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/crc32c.h"

namespace refault::store {

using base::Code;
using base::Decoder;
using base::Encoder;
using base::Error;

namespace {
constexpr std::array<std::uint8_t, 8> kMagic = {'R', 'F', 'M', 'E', 'T', 'A', '0', '1'};
constexpr std::size_t kCrcBytes = 4;
}  // namespace

LogFrame::LogFrame(const base::Uuid& pool, std::uint64_t epoch, std::uint32_t version) {
    Encoder out;
    out.raw(kMagic).u32(version).raw(pool.bytes).u64(epoch);
    seed_ = base::crc32c(out.data());
    out.u32(seed_);
    header_ = out.take();
}

base::Status LogFrame::check_header(std::span<const std::uint8_t> stream) const {
    if (stream.size() < kLogHeaderBytes)
        return Error(Code::Corrupt, "the metadata log is too short for its header");
    const auto header = stream.first(kLogHeaderBytes);
    if (std::equal(header.begin(), header.end(), header_.begin())) return {};
    if (!std::equal(kMagic.begin(), kMagic.end(), header.begin()))
        return Error(Code::Corrupt, "the metadata log has no header");
    Decoder crc(header.last(kCrcBytes));
    if (crc.u32() != base::crc32c(header.first(kLogHeaderBytes - kCrcBytes)))
        return Error(Code::Corrupt, "the metadata log's header fails its checksum");
    Decoder in(header.subspan(kMagic.size()));
    const auto version = in.u32();
    if (version > kLogVersion)
        return Error(Code::NotSupported, "the metadata log is of version " +
                                             std::to_string(version) +
                                             ", made by a newer refault; use that one");
    if (version < kLogVersionOldest)
        return Error(Code::NotSupported, "the metadata log is of version " +
                                             std::to_string(version) +
                                             ", made by an older refault; use that one");
    return Error(Code::Corrupt, "the metadata log is of another pool or epoch than the label says");
}

std::uint32_t LogFrame::seed_at(std::uint64_t offset) const {
    std::array<std::uint8_t, 8> bytes;
    for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<std::uint8_t>(offset >> (8 * i));
    return base::crc32c(bytes, seed_);
}

void LogFrame::append(base::Bytes& out, std::uint64_t offset, std::uint64_t sequence,
                      RecordKind kind, std::span<const std::uint8_t> payload) const {
    CHECK(sequence > 0 && payload.size() <= kRecordPayloadMax);
    Encoder head;
    head.u32(static_cast<std::uint32_t>(payload.size()))
        .u64(sequence)
        .u8(static_cast<std::uint8_t>(kind));
    Encoder crc;
    crc.u32(base::crc32c(payload, base::crc32c(head.data(), seed_at(offset))));
    out.insert(out.end(), crc.data().begin(), crc.data().end());
    out.insert(out.end(), head.data().begin(), head.data().end());
    out.insert(out.end(), payload.begin(), payload.end());
}

std::optional<LogRecord> LogFrame::parse(std::span<const std::uint8_t> stream, std::uint64_t offset,
                                         std::uint64_t sequence_above) const {
    if (offset > stream.size() || stream.size() - offset < kRecordHeadBytes) return std::nullopt;
    const auto bytes = stream.subspan(offset);
    Decoder in(bytes.first(kRecordHeadBytes));
    const auto crc = in.u32();
    const auto payload_length = in.u32();
    LogRecord record;
    record.sequence = in.u64();
    const auto kind = in.u8();
    // The checksum comes last: a search for records calls this at every byte.
    if (kind < 1 || kind > 3) return std::nullopt;
    if (record.sequence <= sequence_above || record.sequence - sequence_above > kSequenceGapMax)
        return std::nullopt;
    if (payload_length > kRecordPayloadMax || payload_length > bytes.size() - kRecordHeadBytes)
        return std::nullopt;
    record.length = kRecordHeadBytes + payload_length;
    if (crc != base::crc32c(bytes.first(record.length).subspan(kCrcBytes), seed_at(offset)))
        return std::nullopt;
    record.kind = static_cast<RecordKind>(kind);
    record.payload = bytes.subspan(kRecordHeadBytes, payload_length);
    return record;
}

}  // namespace refault::store
