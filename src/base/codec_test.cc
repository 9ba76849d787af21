// What is encoded comes back; what is cut, extended or made up never reads beyond its end and never
// passes for whole.
#include "base/codec.h"

#include <gtest/gtest.h>

#include "base/test_random.h"

namespace refault::base {
namespace {

struct Message {
    std::uint8_t a = 0;
    std::uint16_t b = 0;
    std::uint32_t c = 0;
    std::uint64_t d = 0;
    std::string text;
    Bytes bytes;
    bool operator==(const Message&) const = default;
};

constexpr std::uint32_t kLengthMax = 64;

Bytes encode(const Message& m) {
    Encoder out;
    out.u8(m.a).u16(m.b).u32(m.c).u64(m.d).text(m.text).bytes(m.bytes);
    return out.take();
}

Result<Message> decode(std::span<const std::uint8_t> data) {
    Decoder in(data);
    Message m;
    m.a = in.u8();
    m.b = in.u16();
    m.c = in.u32();
    m.d = in.u64();
    m.text = in.text(kLengthMax);
    m.bytes = in.bytes(kLengthMax);
    RETURN_IF_ERROR(in.finish("the message"));
    return m;
}

Message some_message(testing::Random& random) {
    Message m;
    m.a = static_cast<std::uint8_t>(random.next());
    m.b = static_cast<std::uint16_t>(random.next());
    m.c = static_cast<std::uint32_t>(random.next());
    m.d = random.next();
    const auto text = random.bytes(random.below(kLengthMax + 1));
    m.text.assign(text.begin(), text.end());
    m.bytes = random.bytes(random.below(kLengthMax + 1));
    return m;
}

// A copy in memory of exactly that size, so that the address sanitizer sees a byte read too many.
Bytes exact(std::span<const std::uint8_t> data) {
    return {data.begin(), data.end()};
}

TEST(Codec, IsLittleEndian) {
    Encoder out;
    out.u16(0x0102).u32(0x03040506).u64(0x0708090a0b0c0d0eull).text("ab");
    EXPECT_EQ(out.data(), (Bytes{0x02, 0x01, 0x06, 0x05, 0x04, 0x03, 0x0e, 0x0d, 0x0c, 0x0b,
                                 0x0a, 0x09, 0x08, 0x07, 2,    0,    0,    0,    'a',  'b'}));
}

TEST(Codec, WhatIsEncodedComesBack) {
    testing::Random random;
    for (int round = 0; round < 500; ++round) {
        const auto message = some_message(random);
        const auto decoded = decode(encode(message));
        ASSERT_TRUE(decoded) << decoded.error().message();
        ASSERT_EQ(*decoded, message);
    }
}

TEST(Codec, EveryCutIsCorrupt) {
    testing::Random random;
    for (int round = 0; round < 100; ++round) {
        const auto whole = encode(some_message(random));
        for (std::size_t length = 0; length < whole.size(); ++length) {
            const auto decoded = decode(exact(std::span(whole).first(length)));
            ASSERT_FALSE(decoded) << "cut to " << length << " of " << whole.size();
            ASSERT_EQ(decoded.error().code(), Code::Corrupt);
        }
    }
}

TEST(Codec, BytesBehindTheEndAreCorrupt) {
    auto data = encode(Message{});
    data.push_back(0);
    const auto decoded = decode(data);
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().message(), "the message has bytes after its end");
}

TEST(Codec, ChangedBytesAreReadWithinBounds) {
    testing::Random random;
    for (int round = 0; round < 5000; ++round) {
        auto data = exact(encode(some_message(random)));
        for (auto changes = 1 + random.below(4); changes > 0; --changes)
            data[random.below(data.size())] = static_cast<std::uint8_t>(random.next());
        if (const auto decoded = decode(data)) {
            ASSERT_LE(decoded->text.size(), kLengthMax);
            ASSERT_EQ(encode(*decoded), data) << "two encodings of one message";
        }
    }
    for (int round = 0; round < 5000; ++round)
        discard(decode(random.bytes(random.below(200))), "it only has to stay in its bounds");
}

TEST(Codec, LengthAboveTheLimitFails) {
    Encoder out;
    out.text(std::string(kLengthMax + 1, 'x'));
    Decoder in(out.data());
    EXPECT_EQ(in.text(kLengthMax), "");
    EXPECT_FALSE(in.ok());
}

TEST(Codec, LengthBeyondTheInputFailsBeforeAnythingIsAllocated) {
    Encoder out;
    out.u32(UINT32_MAX).u8(1);
    Decoder in(out.data());
    EXPECT_TRUE(in.bytes(UINT32_MAX).empty());
    EXPECT_FALSE(in.ok());
}

TEST(Codec, AfterAFailureEveryFieldIsZero) {
    const Bytes data{0xff, 0xff, 0xff, 0xff, 0xff};
    Decoder in(data);
    EXPECT_EQ(in.u64(), 0u);
    EXPECT_FALSE(in.ok());
    EXPECT_EQ(in.u8(), 0u) << "bytes are left, but it has failed";
    EXPECT_EQ(in.remaining(), 0u);
    EXPECT_TRUE(in.raw(0).empty());
    EXPECT_FALSE(in.ok());
    EXPECT_EQ(in.finish("it").error().code(), Code::Corrupt);
}

}  // namespace
}  // namespace refault::base
