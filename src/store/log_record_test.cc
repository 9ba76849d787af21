// Framing: what is accepted, and that nothing else is.
#include "store/log_record.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "store/test_log.h"

namespace refault::store::testing {
namespace {

using base::Code;

base::Uuid some_uuid(std::uint8_t fill) {
    base::Uuid uuid;
    uuid.bytes.fill(fill);
    return uuid;
}

class LogFrameTest : public ::testing::Test {
  protected:
    LogFrameTest() {
        stream_ = frame_.header();
        frame_.append(stream_, stream_.size(), 1, RecordKind::Checkpoint, numbered(7));
        second_ = stream_.size();
        frame_.append(stream_, stream_.size(), 5, RecordKind::Transaction, {});
    }
    const LogFrame frame_{some_uuid(1), 9};
    Bytes stream_;
    std::uint64_t second_ = 0;
};

TEST_F(LogFrameTest, RecordsComeBack) {
    EXPECT_TRUE(frame_.check_header(stream_).ok());
    const auto first = frame_.parse(stream_, kLogHeaderBytes, 0);
    ASSERT_TRUE(first);
    EXPECT_EQ(first->sequence, 1u);
    EXPECT_EQ(first->kind, RecordKind::Checkpoint);
    EXPECT_EQ(Bytes(first->payload.begin(), first->payload.end()), numbered(7));
    EXPECT_EQ(first->length, second_ - kLogHeaderBytes);
    const auto second = frame_.parse(stream_, second_, 1);
    ASSERT_TRUE(second);
    EXPECT_EQ(second->sequence, 5u);
    EXPECT_TRUE(second->payload.empty());
}

TEST_F(LogFrameTest, ARecordIsValidInItsPlaceAlone) {
    EXPECT_FALSE(LogFrame(some_uuid(1), 10).parse(stream_, kLogHeaderBytes, 0));
    EXPECT_FALSE(LogFrame(some_uuid(2), 9).parse(stream_, kLogHeaderBytes, 0));
    Bytes moved(1, 0);
    moved.insert(moved.end(), stream_.begin(), stream_.end());
    EXPECT_FALSE(frame_.parse(moved, kLogHeaderBytes + 1, 0));
    // Inside another record's payload the same bytes are no record either.
    Bytes quoting = frame_.header();
    frame_.append(quoting, quoting.size(), 1, RecordKind::Transaction, stream_);
    for (std::uint64_t at = kLogHeaderBytes + 1; at < quoting.size(); ++at)
        EXPECT_FALSE(frame_.parse(quoting, at, 0));
}

TEST_F(LogFrameTest, ASequenceThatDoesNotFollowIsNoRecord) {
    EXPECT_TRUE(frame_.parse(stream_, second_, 4));
    EXPECT_FALSE(frame_.parse(stream_, second_, 5));
    frame_.append(stream_, stream_.size(), 6 + kSequenceGapMax, RecordKind::Transaction, {});
    EXPECT_FALSE(frame_.parse(stream_, stream_.size() - kRecordHeadBytes, 5));
    EXPECT_TRUE(frame_.parse(stream_, stream_.size() - kRecordHeadBytes, 6));
}

TEST_F(LogFrameTest, EveryFlippedBitIsSeen) {
    for (std::size_t bit = 0; bit < stream_.size() * 8; ++bit) {
        auto damaged = stream_;
        damaged[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
        const bool in_header = bit / 8 < kLogHeaderBytes;
        const bool in_first = !in_header && bit / 8 < second_;
        EXPECT_EQ(frame_.check_header(damaged).ok(), !in_header) << bit;
        EXPECT_EQ(frame_.parse(damaged, kLogHeaderBytes, 0).has_value(), !in_first) << bit;
        EXPECT_EQ(frame_.parse(damaged, second_, 1).has_value(), in_header || in_first) << bit;
    }
}

TEST_F(LogFrameTest, EveryCutIsSeen) {
    for (std::size_t size = 0; size < stream_.size(); ++size) {
        const std::span<const std::uint8_t> cut(stream_.data(), size);
        EXPECT_EQ(frame_.check_header(cut).ok(), size >= kLogHeaderBytes);
        EXPECT_EQ(frame_.parse(cut, kLogHeaderBytes, 0).has_value(), size >= second_);
        EXPECT_FALSE(frame_.parse(cut, second_, 1));
        EXPECT_FALSE(frame_.parse(cut, size + 1, 0));
    }
}

TEST_F(LogFrameTest, NewerVersionIsNotDamage) {
    base::Encoder out;
    out.raw(std::span(stream_).first(8)).u32(kLogVersion + 1).raw(some_uuid(1).bytes).u64(9);
    out.u32(base::crc32c(out.data()));
    const auto newer = frame_.check_header(out.data());
    ASSERT_FALSE(newer.ok());
    EXPECT_EQ(newer.error().code(), Code::NotSupported);
    EXPECT_EQ(LogFrame(some_uuid(1), 10).check_header(stream_).error().code(), Code::Corrupt);
}

// Written down by hand: a change of this test is a change of the format.
TEST(LogFrame, BytesOnMedia) {
    const LogFrame frame(some_uuid(0xab), 3);
    Bytes stream = frame.header();
    frame.append(stream, stream.size(), 2, RecordKind::Transaction, Bytes{0xde, 0xad});
    base::Encoder expected;
    expected.raw(Bytes{'R', 'F', 'M', 'E', 'T', 'A', '0', '1', 4, 0, 0, 0});
    expected.raw(Bytes(16, 0xab)).raw(Bytes{3, 0, 0, 0, 0, 0, 0, 0});
    const auto header_crc = base::crc32c(expected.data());
    expected.u32(header_crc);
    const Bytes behind_crc = {2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0xde, 0xad};
    const Bytes offset = {40, 0, 0, 0, 0, 0, 0, 0};
    expected.u32(base::crc32c(behind_crc, base::crc32c(offset, header_crc))).raw(behind_crc);
    EXPECT_EQ(stream, expected.data());
}

}  // namespace
}  // namespace refault::store::testing
