// The label on media: every field comes back, every damage is named, a newer version is told apart
// from damage.
#include "device/label.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/crc32c.h"
#include "base/test_random.h"

namespace refault::device {
namespace {

using base::Bytes;
using base::Code;
using base::SegmentNo;

constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kBodyAt = 16;

Label some_label() {
    Label label;
    for (std::size_t i = 0; i < 16; ++i) {
        label.device.bytes[i] = static_cast<std::uint8_t>(i + 1);
        label.pool.bytes[i] = static_cast<std::uint8_t>(0xf0 + i);
    }
    label.name = "dev-0.a_b";
    label.id = base::DeviceId(0xfffffffe);
    label.segment_bytes = 1ull << 30;
    label.segment_count = UINT32_MAX;
    label.generation = UINT64_MAX - 1;
    label.state = LabelState::Removed;
    label.metadata_epoch = 0x0123456789abcdefull;
    label.metadata_segments = {SegmentNo(7), SegmentNo(0), SegmentNo(UINT32_MAX - 1)};
    return label;
}

void expect_same(const Label& a, const Label& b) {
    EXPECT_EQ(a.device, b.device);
    EXPECT_EQ(a.pool, b.pool);
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(a.id, b.id);
    EXPECT_EQ(a.segment_bytes, b.segment_bytes);
    EXPECT_EQ(a.segment_count, b.segment_count);
    EXPECT_EQ(a.generation, b.generation);
    EXPECT_EQ(a.state, b.state);
    EXPECT_EQ(a.metadata_epoch, b.metadata_epoch);
    EXPECT_EQ(a.metadata_segments, b.metadata_segments);
}

// Puts the right checksum at the end: what is wrong then is the field alone.
void seal(Bytes& bytes) {
    bytes.resize(bytes.size() - 4);
    base::Encoder crc;
    crc.u32(base::crc32c(bytes));
    bytes.insert(bytes.end(), crc.data().begin(), crc.data().end());
}

std::string refusal(const Bytes& bytes, Code code) {
    const auto label = decode_label(bytes);
    if (label) return "it was taken";
    EXPECT_EQ(label.error().code(), code) << label.error().message();
    return label.error().message();
}

TEST(Label, EveryFieldComesBack) {
    const auto label = decode_label(encode_label(some_label()));
    ASSERT_TRUE(label) << label.error().message();
    expect_same(*label, some_label());
}

TEST(Label, ManyMetadataSegmentsComeBack) {
    auto label = some_label();
    label.metadata_segments.clear();
    for (std::uint32_t i = 0; i < 50000; ++i) label.metadata_segments.emplace_back(i * 3);
    const auto decoded = decode_label(encode_label(label));
    ASSERT_TRUE(decoded) << decoded.error().message();
    expect_same(*decoded, label);
}

TEST(Label, EveryFlippedBitIsSeen) {
    const auto right = encode_label(some_label());
    for (std::size_t bit = 0; bit < right.size() * 8; ++bit) {
        auto bytes = right;
        bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
        const auto label = decode_label(bytes);
        ASSERT_FALSE(label) << "bit " << bit;
        const bool is_version = bit / 8 >= kVersionAt && bit / 8 < kVersionAt + 4;
        EXPECT_TRUE(is_version || label.error().code() == Code::Corrupt) << "bit " << bit;
    }
}

TEST(Label, EveryCutIsSeen) {
    const auto right = encode_label(some_label());
    for (std::size_t length = 0; length < right.size(); ++length) {
        const Bytes cut(right.begin(), right.begin() + static_cast<std::ptrdiff_t>(length));
        ASSERT_EQ(decode_label(cut).error().code(), Code::Corrupt) << length;
    }
    auto longer = right;
    longer.push_back(0);
    EXPECT_NE(refusal(longer, Code::Corrupt).find("length"), std::string::npos);
}

TEST(Label, ANewerVersionSaysWhichProgramToUse) {
    auto bytes = encode_label(some_label());
    bytes[kVersionAt] = kLabelVersion + 1;
    seal(bytes);
    const auto text = refusal(bytes, Code::NotSupported);
    EXPECT_NE(text.find("made by a newer refault; use that one"), std::string::npos) << text;
    bytes[kVersionAt] = 0;
    seal(bytes);
    EXPECT_NE(refusal(bytes, Code::Corrupt).find("version"), std::string::npos);
}

TEST(Label, SaysThatAnotherFileIsNoLabel) {
    EXPECT_NE(refusal(Bytes(100, 'x'), Code::Corrupt).find("magic"), std::string::npos);
    EXPECT_NE(refusal({}, Code::Corrupt).find("too short"), std::string::npos);
}

TEST(Label, ASealedLabelWithABadFieldNamesTheRule) {
    const auto with = [](const std::function<void(Label&)>& change) {
        Label label = some_label();
        change(label);
        return refusal(encode_label(label), Code::Corrupt);
    };
    const auto has = [](const std::string& text, const char* rule) {
        return text.find(rule) != std::string::npos;
    };
    EXPECT_TRUE(has(with([](Label& l) { l.name = ""; }), "name"));
    EXPECT_TRUE(has(with([](Label& l) { l.name = "../x"; }), "name"));
    EXPECT_TRUE(has(with([](Label& l) { l.name = "a\nb"; }), "name"));
    EXPECT_TRUE(has(with([](Label& l) { l.name.assign(64, 'x'); }), "out of bounds"));
    EXPECT_TRUE(has(with([](Label& l) { l.segment_bytes = 0; }), "segment size"));
    EXPECT_TRUE(has(with([](Label& l) { l.segment_bytes = 2048; }), "segment size"));
    EXPECT_TRUE(has(with([](Label& l) { l.segment_bytes = 3 << 20; }), "segment size"));
    EXPECT_TRUE(has(with([](Label& l) { l.segment_bytes = 1ull << 40; }), "segment size"));
    EXPECT_TRUE(has(with([](Label& l) { l.segment_count = 0; }), "no segments"));
    EXPECT_TRUE(has(with([](Label& l) { l.segment_count = 7; }), "metadata segment lies beyond"));
    EXPECT_TRUE(has(with([](Label& l) { l.state = static_cast<LabelState>(0); }), "state"));
    EXPECT_TRUE(has(with([](Label& l) { l.state = static_cast<LabelState>(3); }), "state"));
}

// The checksum protects against the medium; what is made up with a right one must still be within
// bounds.
TEST(Label, SealedNonsenseIsReadWithinBounds) {
    base::testing::Random random;
    const auto right = encode_label(some_label());
    for (int round = 0; round < 20000; ++round) {
        auto bytes = right;
        for (auto changes = 1 + random.below(3); changes > 0; --changes)
            bytes[kBodyAt + random.below(bytes.size() - kBodyAt - 4)] =
                static_cast<std::uint8_t>(random.next());
        seal(bytes);
        if (const auto label = decode_label(bytes)) {
            ASSERT_EQ(encode_label(*label), bytes) << "two encodings of one label";
            ASSERT_GT(label->segment_bytes * label->segment_count, 0u);
        } else {
            ASSERT_EQ(label.error().code(), Code::Corrupt);
        }
    }
}

}  // namespace
}  // namespace refault::device
