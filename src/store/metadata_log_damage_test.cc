// Reading what was cut, flipped or lost: never garbage, never a quiet loss of what a good copy has.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "base/crc32c.h"
#include "store/log_record.h"
#include "store/test_faults.h"
#include "store/test_log.h"

namespace refault::store::testing {
namespace {

using base::Code;

// Image records 0..2, transactions 3..29 on devices a and b, in several segments.
class LogDamageTest : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_TRUE(log_.checkpoint(devices_.copies({0, 1}), image_).ok());
        for (const auto& payload : transactions_) {
            ends_.push_back(end());
            ASSERT_TRUE(log_.append(payload).ok());
        }
        ends_.push_back(end());
        ASSERT_GT(ends_.back(), 4096u);
        a_.emplace(devices_[0]);
        b_.emplace(devices_[1]);
        intact_ = a_->bytes;
        ASSERT_EQ(intact_, b_->bytes);
    }
    std::size_t end() const { return log_.checkpoint_bytes() + log_.log_bytes(); }

    Result<MetadataLog::History> read_with(Bytes a, Bytes b) {
        a_->bytes = std::move(a);
        a_->store();
        b_->bytes = std::move(b);
        b_->store();
        return MetadataLog::read_longest(devices_.all());
    }
    Bytes cut_at(std::size_t at) const {
        auto bytes = intact_;
        std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(), std::uint8_t{0});
        return bytes;
    }
    Bytes flipped_at(std::size_t at, std::uint8_t mask) const {
        auto bytes = intact_;
        bytes[at] ^= mask;
        return bytes;
    }
    void expect_prefix(const Result<MetadataLog::History>& history, std::size_t count,
                       const std::string& where) {
        ASSERT_TRUE(history.ok()) << where << ": " << history.error().message();
        EXPECT_EQ(history->checkpoint, image_) << where;
        ASSERT_EQ(history->transactions.size(), count) << where;
        EXPECT_TRUE(std::equal(history->transactions.begin(), history->transactions.end(),
                               transactions_.begin()))
            << where;
    }
    // So many transactions end at or before `at`.
    std::size_t whole_before(std::size_t at) const {
        return static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), at) -
                                        ends_.begin()) -
               1;
    }

    const std::vector<Bytes> image_ = numbered(0, 3);
    const std::vector<Bytes> transactions_ = numbered(3, 30);
    LogDevices devices_{2};
    PlainSpace space_{devices_};
    MetadataLog log_{devices_.uuid, space_};
    std::vector<std::size_t> ends_;  // of the checkpoint and of each transaction
    std::optional<CopyBytes> a_, b_;
    Bytes intact_;
};

TEST_F(LogDamageTest, CutOnOneCopyCostsNothing) {
    for (auto at = kLogHeaderBytes; at < ends_.back(); ++at) {
        expect_prefix(read_with(cut_at(at), intact_), transactions_.size(),
                      "a cut at " + std::to_string(at));
        expect_prefix(read_with(intact_, cut_at(at)), transactions_.size(),
                      "b cut at " + std::to_string(at));
    }
}

TEST_F(LogDamageTest, CutOnBothCopiesGivesWhatWasWholeBefore) {
    for (auto at = ends_.front(); at < ends_.back(); ++at) {
        const auto history = read_with(cut_at(at), cut_at(at));
        const auto count = whole_before(at);
        expect_prefix(history, count, "both cut at " + std::to_string(at));
        if (at > ends_[count] + kRecordHeadBytes) {
            EXPECT_NE(history->notes, "") << at;
        }
    }
    for (auto at = std::size_t{0}; at < ends_.front() - 1; ++at) {
        const auto history = read_with(cut_at(at), cut_at(at));
        ASSERT_FALSE(history.ok()) << at;
        EXPECT_EQ(history.error().code(), Code::Corrupt);
    }
}

TEST_F(LogDamageTest, CutAtTwoPlacesGivesTheLongerCopy) {
    Random random(test_seed());
    for (int i = 0; i < 500; ++i) {
        const auto a = ends_.front() + random.below(ends_.back() - ends_.front());
        const auto b = ends_.front() + random.below(ends_.back() - ends_.front());
        expect_prefix(read_with(cut_at(a), cut_at(b)), whole_before(std::max(a, b)),
                      "a cut at " + std::to_string(a) + ", b at " + std::to_string(b));
    }
}

TEST_F(LogDamageTest, GarbageBehindTheEndIsCut) {
    Random random(test_seed());
    for (int i = 0; i < 200; ++i) {
        auto a = intact_, b = intact_;
        for (auto at = ends_.back(); at < intact_.size(); ++at) {
            a[at] = static_cast<std::uint8_t>(random.below(256));
            b[at] = static_cast<std::uint8_t>(random.below(4));
        }
        expect_prefix(read_with(a, b), transactions_.size(), "garbage " + std::to_string(i));
    }
}

TEST_F(LogDamageTest, FlippedByteOnOneCopyCostsNothing) {
    for (std::size_t at = 0; at < ends_.back(); ++at) {
        const auto mask = static_cast<std::uint8_t>(1u << at % 8);
        const auto history = read_with(flipped_at(at, mask), intact_);
        expect_prefix(history, transactions_.size(), "flipped at " + std::to_string(at));
        EXPECT_NE(history->notes, "") << at;
    }
}

TEST_F(LogDamageTest, DifferentRecordsDamagedOnEachCopyCostNothing) {
    Random random(test_seed());
    for (int i = 0; i < 500; ++i) {
        const auto first = random.below(transactions_.size());
        auto second = random.below(transactions_.size());
        if (first == second) second = (second + 1) % transactions_.size();
        auto a = flipped_at(ends_[first] + random.below(ends_[first + 1] - ends_[first]), 0x20);
        const auto b =
            flipped_at(ends_[second] + random.below(ends_[second + 1] - ends_[second]), 0x01);
        a[random.below(kLogHeaderBytes)] ^= 1;
        expect_prefix(read_with(a, b), transactions_.size(),
                      std::to_string(first) + " and " + std::to_string(second));
    }
}

TEST_F(LogDamageTest, TheSameRecordDamagedOnBothIsReportedIfMoreFollows) {
    for (std::size_t at = kLogHeaderBytes; at < ends_.back(); ++at) {
        const auto damaged = flipped_at(at, 0x10);
        const auto history = read_with(damaged, damaged);
        if (at >= ends_[transactions_.size() - 1]) {
            expect_prefix(history, transactions_.size() - 1,
                          "the last record, at " + std::to_string(at));
            EXPECT_NE(history->notes, "");
        } else {
            ASSERT_FALSE(history.ok()) << "a silent loss after a flip at " << at;
            EXPECT_EQ(history.error().code(), Code::Corrupt);
        }
    }
}

TEST_F(LogDamageTest, DamageIsReportedHoweverLargeTheGap) {
    for (std::size_t from = 0; from + 1 < transactions_.size(); ++from) {
        auto damaged = intact_;
        for (auto at = ends_[from]; at < ends_[transactions_.size() - 1]; ++at) damaged[at] = 0;
        const auto history = read_with(damaged, damaged);
        ASSERT_FALSE(history.ok()) << from;
        EXPECT_EQ(history.error().code(), Code::Corrupt);
    }
}

TEST_F(LogDamageTest, HeadersDamagedOnBothCopiesCostNothing) {
    for (std::size_t at = 0; at < kLogHeaderBytes; ++at)
        expect_prefix(read_with(flipped_at(at, 0x80), flipped_at(at, 0x01)), transactions_.size(),
                      "header at " + std::to_string(at));
}

TEST_F(LogDamageTest, ASegmentFileThatIsGoneIsMadeUpForByTheOtherCopy) {
    const auto segments = devices_[0]->label().metadata_segments;
    for (const auto segment : segments) {
        ASSERT_TRUE(devices_[0]->release_segment(segment).ok());
        const auto history = MetadataLog::read_longest(devices_.all());
        expect_prefix(history, transactions_.size(),
                      "without segment " + std::to_string(segment.raw()));
        EXPECT_NE(history->notes, "");
    }
    // Then on the other copy: from its last segment on nothing is known any more.
    ASSERT_TRUE(devices_[1]->release_segment(segments.back()).ok());
    EXPECT_EQ(MetadataLog::read_longest(devices_.all()).error().code(), Code::Corrupt);
}

TEST_F(LogDamageTest, ALabelThatIsGoneOrDamagedIsPassedOver) {
    for (const char* how : {"damaged", "gone"}) {
        const auto path = std::filesystem::path(devices_[0]->directory()) / "label";
        if (how == std::string("gone"))
            std::filesystem::remove(path);
        else
            std::filesystem::resize_file(path, 20);
        const auto history = MetadataLog::read_longest(devices_.all());
        expect_prefix(history, transactions_.size(), how);
        EXPECT_NE(history->notes, "") << how;
    }
}

TEST_F(LogDamageTest, UnreadablePagesAreTakenFromTheOtherCopy) {
    const auto pages = devices_[0]->label().metadata_segments.size();
    ASSERT_GE(pages, 2u);
    std::set<std::string> bad;
    const auto read = [&] {
        const CallWatch watch([&](const CallEvent& event) {
            return Verdict{event.call == Call::Read && bad.contains(event.path) ? EIO : 0};
        });
        return MetadataLog::read_longest(devices_.all());
    };
    const auto page = [&](std::size_t device, std::size_t i) {
        char name[16];
        std::snprintf(name, sizeof name, "seg-%05u",
                      devices_[device]->label().metadata_segments[i].raw());
        return devices_[device]->directory() + "/" + name;
    };
    for (std::size_t i = 0; i < pages; ++i) {
        bad = {page(0, i)};
        expect_prefix(read(), transactions_.size(), "page " + std::to_string(i));
        bad = {page(0, i), page(1, i)};
        const auto history = read();
        ASSERT_FALSE(history.ok())
            << "what cannot be read on any copy is not a torn tail: page " << i;
        EXPECT_EQ(history.error().code(), Code::Corrupt);
    }
}

TEST_F(LogDamageTest, NewerVersionsAreRefusedAsSuch) {
    base::Encoder header;
    header.raw(std::span(intact_).first(8))
        .u32(kLogVersion + 1)
        .raw(std::span(intact_).subspan(12, 24));
    header.u32(base::crc32c(header.data()));
    auto newer = intact_;
    std::copy(header.data().begin(), header.data().end(), newer.begin());
    EXPECT_EQ(read_with(newer, intact_).error().code(), Code::NotSupported);

    auto label = device::encode_label(devices_[0]->label());
    label[8] = device::kLabelVersion + 1;
    std::ofstream(devices_[0]->directory() + "/label", std::ios::binary)
        .write(reinterpret_cast<const char*>(label.data()),
               static_cast<std::streamsize>(label.size()));
    EXPECT_EQ(read_with(intact_, intact_).error().code(), Code::NotSupported);
}

TEST_F(LogDamageTest, AnEpochThatWasBegunNeverGivesWayToAnOlderOne) {
    // b keeps the label of the old epoch, as if its device had been away.
    const auto old_label = devices_[1]->label();
    std::vector<Bytes> old_files;
    for (const auto segment : old_label.metadata_segments) {
        old_files.emplace_back(4096);
        ASSERT_TRUE(
            devices_[1]->read(devices_[1]->segment_range(segment).begin(), old_files.back()).ok());
    }
    ASSERT_TRUE(log_.checkpoint(devices_.copies({0}), image_).ok());
    for (std::size_t i = 0; i < old_files.size(); ++i) {
        const auto segment = old_label.metadata_segments[i];
        ASSERT_TRUE(devices_[1]->create_segment(segment).ok());
        ASSERT_TRUE(
            devices_[1]->write(devices_[1]->segment_range(segment).begin(), old_files[i]).ok());
    }
    ASSERT_TRUE(devices_[1]->write_label(old_label).ok());
    EXPECT_EQ(MetadataLog::read_longest(devices_.all())->epoch, 2u);
    CopyBytes a(devices_[0]);
    a.bytes[kLogHeaderBytes + 20] ^= 1;
    a.store();
    EXPECT_EQ(MetadataLog::read_longest(devices_.all()).error().code(), Code::Corrupt);
    // An epoch of which nothing is left is one whose segments were given back.
    std::fill(a.bytes.begin(), a.bytes.end(), std::uint8_t{0});
    a.store();
    const auto history = MetadataLog::read_longest(devices_.all());
    expect_prefix(history, transactions_.size(), "the old epoch");
    EXPECT_EQ(history->epoch, 1u);
    EXPECT_NE(history->notes, "");
}

}  // namespace
}  // namespace refault::store::testing
