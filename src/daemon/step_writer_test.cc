// StepWriter: bounded steps, the same bytes, an end at the first error.
#include "daemon/step_writer.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

namespace refault::daemon {
namespace {

TEST(StepWriter, PutsTheSameBytesInFewBoundedSteps) {
    const char* given = std::getenv("REFAULT_SEED");
    const std::uint64_t seed =
        given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::cout << "seed " << seed << "\n";
    std::mt19937_64 random(seed);
    std::string sent(5 * StepWriter::kStepBytes + 12'345, '\0');
    for (auto& byte : sent) byte = static_cast<char>(random());
    std::string got;
    int steps = 0;
    StepWriter writer(1000,
                      [&](std::uint64_t at, std::span<const std::uint8_t> bytes) -> base::Status {
                          EXPECT_EQ(at, 1000 + got.size());
                          EXPECT_LE(bytes.size(), StepWriter::kStepBytes);
                          got.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
                          ++steps;
                          return {};
                      });
    for (std::size_t at = 0; at < sent.size();) {
        const auto length = std::min<std::size_t>(sent.size() - at, 1 + random() % 9'000);
        ASSERT_TRUE(writer.add(sent.data() + at, length));
        at += length;
    }
    writer.flush();
    EXPECT_TRUE(got == sent);
    EXPECT_EQ(steps, 6);
    EXPECT_EQ(writer.offset(), 1000 + sent.size());
}

TEST(StepWriter, StopsAtTheFirstError) {
    int steps = 0;
    StepWriter writer(0, [&](std::uint64_t, std::span<const std::uint8_t>) -> base::Status {
        return ++steps == 1 ? base::Status() : base::Error(base::Code::NoSpace, "full");
    });
    const std::string piece(StepWriter::kStepBytes, 'x');
    EXPECT_TRUE(writer.add(piece.data(), piece.size()));
    EXPECT_FALSE(writer.add(piece.data(), piece.size()));
    EXPECT_FALSE(writer.add(piece.data(), piece.size()));
    writer.flush();
    EXPECT_EQ(steps, 2);
    ASSERT_FALSE(writer.status());
    EXPECT_EQ(writer.status().error().code(), base::Code::NoSpace);
}

}  // namespace
}  // namespace refault::daemon
