// The checksum is the standard one and may be taken in pieces.
#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>

#include "base/test_random.h"

namespace refault::base {
namespace {

std::span<const std::uint8_t> as_bytes(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

TEST(Crc32c, KnownValues) {
    EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283u);
    EXPECT_EQ(crc32c({}), 0u);
    // RFC 3720, B.4.
    EXPECT_EQ(crc32c(std::vector<std::uint8_t>(32, 0x00)), 0x8a9136aau);
    EXPECT_EQ(crc32c(std::vector<std::uint8_t>(32, 0xff)), 0x62a8ab43u);
}

TEST(Crc32c, PiecesGiveTheSameAsTheWhole) {
    testing::Random random;
    for (int round = 0; round < 200; ++round) {
        const auto data = random.bytes(random.below(1000));
        const auto cut = random.below(data.size() + 1);
        const std::span whole(data);
        EXPECT_EQ(crc32c(whole.subspan(cut), crc32c(whole.first(cut))), crc32c(whole));
    }
}

TEST(Crc32c, EveryFlippedBitShows) {
    testing::Random random;
    auto data = random.bytes(64);
    const auto right = crc32c(data);
    for (std::size_t bit = 0; bit < data.size() * 8; ++bit) {
        data[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
        EXPECT_NE(crc32c(data), right);
        data[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    }
}

}  // namespace
}  // namespace refault::base
