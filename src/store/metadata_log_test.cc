// The metadata log when nothing breaks: what is written is read, and segments and labels are kept
// in step.
#include "store/metadata_log.h"

#include <gtest/gtest.h>

#include "store/test_log.h"

namespace refault::store::testing {
namespace {

using base::Code;
using Ids = std::vector<DeviceId>;

class MetadataLogTest : public ::testing::Test {
  protected:
    void append(std::uint64_t begin, std::uint64_t end) {
        for (auto i = begin; i < end; ++i) {
            const auto appended = log_.append(numbered(i));
            ASSERT_TRUE(appended.ok()) << appended.error().message();
        }
    }
    void checkpoint(const std::vector<std::size_t>& devices, const std::vector<Bytes>& image) {
        const auto written = log_.checkpoint(devices_.copies(devices), image);
        ASSERT_TRUE(written.ok()) << written.error().message();
    }
    MetadataLog::History read() {
        auto history = MetadataLog::read_longest(devices_.all());
        EXPECT_TRUE(history.ok()) << history.error().message();
        return history ? *history : MetadataLog::History{};
    }
    void expect_history(std::uint64_t epoch, const std::vector<Bytes>& image,
                        const std::vector<Bytes>& transactions) {
        const auto history = read();
        EXPECT_EQ(history.epoch, epoch);
        EXPECT_EQ(history.checkpoint, image);
        EXPECT_EQ(history.transactions, transactions);
        EXPECT_EQ(history.notes, "");
        EXPECT_EQ(space_.taken, space_.listed());
    }

    LogDevices devices_{3};
    PlainSpace space_{devices_};
    MetadataLog log_{devices_.uuid, space_};
};

TEST_F(MetadataLogTest, WhatIsAppendedIsReadInOrder) {
    checkpoint({0, 1}, numbered(0, 20));
    expect_history(1, numbered(0, 20), {});
    append(20, 200);
    expect_history(1, numbered(0, 20), numbered(20, 200));
    EXPECT_EQ(log_.copies(), (Ids{DeviceId(1), DeviceId(2)}));
    EXPECT_EQ(log_.failed_copies(), Ids{});
    EXPECT_GT(devices_[0]->label().metadata_segments.size(), 5u)
        << "the segments are too large for this test";
    EXPECT_TRUE(devices_[2]->label().metadata_segments.empty());
    // Either copy alone has it all.
    for (std::size_t only : {0u, 1u}) {
        const auto history = MetadataLog::read_longest(std::span(&devices_[only], 1));
        ASSERT_TRUE(history.ok());
        EXPECT_EQ(history->transactions, numbered(20, 200));
    }
}

TEST_F(MetadataLogTest, EmptyImageAndEmptyTransactionsAreKept) {
    checkpoint({0}, {});
    ASSERT_TRUE(log_.append({}).ok());
    ASSERT_TRUE(log_.append({}).ok());
    expect_history(1, {}, {{}, {}});
}

TEST_F(MetadataLogTest, ARecordMaySpanManySegments) {
    checkpoint({0, 1}, {Bytes(3 * 4096 + 17, 1)});
    ASSERT_TRUE(log_.append(Bytes(9 * 4096 + 5, 2)).ok());
    append(0, 3);
    expect_history(1, {Bytes(3 * 4096 + 17, 1)},
                   {Bytes(9 * 4096 + 5, 2), numbered(0), numbered(1), numbered(2)});
}

TEST_F(MetadataLogTest, CheckpointReplacesTheHistory) {
    checkpoint({0, 1}, {});
    append(0, 100);
    EXPECT_GT(log_.log_bytes(), 0u);
    checkpoint({0, 1}, numbered(500, 510));
    EXPECT_EQ(log_.log_bytes(), 0u);
    expect_history(2, numbered(500, 510), {});
    append(100, 110);
    expect_history(2, numbered(500, 510), numbered(100, 110));
    EXPECT_EQ(log_.epoch(), 2u);
}

TEST_F(MetadataLogTest, FirstEpochFollowsTheHistoryThatWasRead) {
    ASSERT_TRUE(log_.checkpoint(devices_.copies({0, 1}), numbered(0, 3), 41).ok());
    expect_history(41, numbered(0, 3), {});
    checkpoint({0, 1}, {});
    EXPECT_EQ(log_.epoch(), 42u);
}

TEST_F(MetadataLogTest, CheckpointMovesCopiesBetweenDevices) {
    checkpoint({0, 1}, {});
    append(0, 30);
    checkpoint({1, 2}, numbered(0, 30));
    EXPECT_EQ(log_.copies(), (Ids{DeviceId(2), DeviceId(3)}));
    EXPECT_EQ(devices_[0]->read_label()->metadata_segments.size(), 0u);
    EXPECT_EQ(devices_[0]->list_segments()->size(), 0u);
    append(30, 40);
    expect_history(2, numbered(0, 30), numbered(30, 40));
    checkpoint({0}, numbered(0, 40));
    expect_history(3, numbered(0, 40), {});
    checkpoint({0, 1, 2}, numbered(0, 41));
    append(41, 50);
    expect_history(4, numbered(0, 41), numbered(41, 50));
}

TEST_F(MetadataLogTest, OtherFieldsOfTheLabelStay) {
    const auto before = *devices_[0]->read_label();
    checkpoint({0}, {});
    append(0, 50);
    checkpoint({1}, {});
    const auto after = *devices_[0]->read_label();
    EXPECT_EQ(device::encode_label(after), device::encode_label(before));
}

TEST_F(MetadataLogTest, FullDevicesRefuseAndACheckpointHelps) {
    space_.segments_max = 12;
    checkpoint({0, 1}, {});
    std::uint64_t count = 0;
    Status appended;
    while ((appended = log_.append(numbered(count)))) ++count;
    EXPECT_EQ(appended.error().code(), Code::NoSpace);
    EXPECT_GT(count, 50u);
    EXPECT_EQ(log_.append(numbered(count)).error().code(), Code::NoSpace)
        << "the same again changes nothing";
    EXPECT_EQ(log_.failed_copies(), Ids{});
    EXPECT_EQ(read().transactions, numbered(0, count));
    ASSERT_TRUE(log_.append({}).ok()) << "what still fits goes on";
    ASSERT_EQ(log_.checkpoint(devices_.copies({0, 1}), numbered(0, count)).error().code(),
              Code::NoSpace);
    auto acknowledged = numbered(0, count);
    acknowledged.emplace_back();
    EXPECT_EQ(read().transactions, acknowledged) << "a refused checkpoint leaves the old epoch";
    checkpoint({2}, {});
    append(0, 50);
    expect_history(2, {}, numbered(0, 50));
}

TEST_F(MetadataLogTest, OneFullDeviceCostsItsCopyAlone) {
    devices_.add({4096, 4});
    checkpoint({0, 3}, {});
    append(0, 200);
    EXPECT_EQ(log_.copies(), Ids{DeviceId(1)});
    EXPECT_EQ(log_.failed_copies(), Ids{DeviceId(4)});
    expect_history(1, {}, numbered(0, 200));
    checkpoint({0, 1}, numbered(0, 200));
    EXPECT_EQ(log_.failed_copies(), Ids{});
    expect_history(2, numbered(0, 200), {});
}

TEST_F(MetadataLogTest, WithoutACheckpointNothingCanBeAppended) {
    EXPECT_EQ(log_.append(numbered(1)).error().code(), Code::Io);
    EXPECT_FALSE(log_.wants_checkpoint());
}

TEST_F(MetadataLogTest, TooLargeIsRefusedAndChangesNothing) {
    checkpoint({0, 1}, numbered(0, 3));
    EXPECT_EQ(log_.append(Bytes(kRecordPayloadMax + 1)).error().code(), Code::Invalid);
    const std::vector<Bytes> image = {Bytes(kRecordPayloadMax + 1)};
    EXPECT_EQ(log_.checkpoint(devices_.copies({0, 1}), image).error().code(), Code::Invalid);
    append(0, 3);
    expect_history(1, numbered(0, 3), numbered(0, 3));
}

TEST_F(MetadataLogTest, WantsACheckpointWhenTheLogIsMuchLonger) {
    LogDevices devices(1, {1 << 20, 64});
    PlainSpace space(devices);
    MetadataLog log(devices.uuid, space);
    ASSERT_TRUE(log.checkpoint(devices.copies({0}), std::vector<Bytes>{Bytes(2 << 20)}).ok());
    EXPECT_GE(log.checkpoint_bytes(), 2u << 20);
    std::uint64_t count = 0;
    for (; !log.wants_checkpoint(); ++count) ASSERT_TRUE(log.append(Bytes(64 << 10)).ok());
    EXPECT_NEAR(static_cast<double>(count), 64, 2);
    ASSERT_TRUE(log.checkpoint(devices.copies({0}), {}).ok());
    EXPECT_FALSE(log.wants_checkpoint());
}

TEST_F(MetadataLogTest, NoMetadataAtAllIsCorrupt) {
    const auto history = MetadataLog::read_longest(devices_.all());
    ASSERT_FALSE(history.ok());
    EXPECT_EQ(history.error().code(), Code::Corrupt);
    EXPECT_EQ(MetadataLog::read_longest({}).error().code(), Code::Corrupt);
}

TEST_F(MetadataLogTest, MembersOfAnotherPoolAreRefused) {
    checkpoint({0, 1}, {});
    LogDevices others(1);
    PlainSpace space(others);
    MetadataLog other(others.uuid, space);
    ASSERT_TRUE(other.checkpoint(others.copies({0}), numbered(0, 5), 7).ok());
    const std::vector<DevicePtr> mixed = {devices_[0], devices_[1], others[0]};
    EXPECT_EQ(MetadataLog::read_longest(mixed).error().code(), Code::Invalid);
}

TEST_F(MetadataLogTest, APulledDeviceHasNoSay) {
    checkpoint({0}, {});
    auto old = *devices_[0]->read_label();
    checkpoint({1}, numbered(0, 3));
    old.metadata_epoch = 99;
    old.state = device::LabelState::Removed;
    ASSERT_TRUE(devices_[0]->write_label(old).ok());
    EXPECT_EQ(read().checkpoint, numbered(0, 3));
}

}  // namespace
}  // namespace refault::store::testing
