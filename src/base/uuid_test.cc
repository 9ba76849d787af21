// Identities: random, of the standard form, and parsed strictly.
#include "base/uuid.h"

#include <gtest/gtest.h>

#include <set>

namespace refault::base {
namespace {

TEST(Uuid, RandomOnesDifferAndAreOfVersion4) {
    std::set<Uuid> seen;
    for (int i = 0; i < 1000; ++i) {
        const auto uuid = Uuid::random();
        ASSERT_TRUE(uuid) << uuid.error().message();
        EXPECT_EQ(uuid->bytes[6] >> 4, 4);
        EXPECT_EQ(uuid->bytes[8] >> 6, 2);
        EXPECT_TRUE(seen.insert(*uuid).second) << uuid->to_string();
    }
}

TEST(Uuid, TextComesBack) {
    const auto uuid = Uuid::random();
    ASSERT_TRUE(uuid);
    const auto parsed = Uuid::parse(uuid->to_string());
    ASSERT_TRUE(parsed);
    EXPECT_EQ(*parsed, *uuid);
}

TEST(Uuid, TextHasTheStandardForm) {
    Uuid uuid;
    for (std::size_t i = 0; i < 16; ++i) uuid.bytes[i] = static_cast<std::uint8_t>(i * 17);
    EXPECT_EQ(uuid.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
}

TEST(Uuid, RefusesAnythingElse) {
    for (const char* text :
         {"", "0", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeeff0",
          "00112233445566778899aabbccddeeff", "0011223-34455-6677-8899-aabbccddeeff",
          "0011223g-4455-6677-8899-aabbccddeeff", " 00112233-4455-6677-8899-aabbccddeeff",
          "00112233-4455-6677-8899-AABBCCDDEEFF"}) {
        const auto parsed = Uuid::parse(text);
        ASSERT_FALSE(parsed) << text;
        EXPECT_EQ(parsed.error().code(), Code::Invalid);
        EXPECT_NE(parsed.error().message().find(text), std::string::npos);
    }
}

}  // namespace
}  // namespace refault::base
