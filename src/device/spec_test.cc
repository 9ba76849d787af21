// What people write for a device, and how its size is cut.
#include "device/spec.h"

#include <gtest/gtest.h>

#include <bit>

#include "base/test_random.h"

namespace refault::device {
namespace {

constexpr std::uint64_t kMiB = 1ull << 20;
constexpr std::uint64_t kGiB = 1ull << 30;

TEST(DeviceSpec, ParsesRam) {
    const auto spec = parse_device_spec("fast=ram:512M,node=1");
    ASSERT_TRUE(spec) << spec.error().message();
    EXPECT_EQ(spec->name, "fast");
    EXPECT_EQ(spec->kind, DeviceKind::Ram);
    EXPECT_EQ(spec->size_bytes, 512 * kMiB);
    EXPECT_EQ(spec->numa_node, 1);
    EXPECT_FALSE(spec->segment_bytes);
}

TEST(DeviceSpec, ParsesDir) {
    const auto spec = parse_device_spec("pm.0=dir:/mnt/pmem0/a=b:c,size=2G,segment=64K");
    ASSERT_TRUE(spec) << spec.error().message();
    EXPECT_EQ(spec->name, "pm.0");
    EXPECT_EQ(spec->kind, DeviceKind::Dir);
    EXPECT_EQ(spec->path, "/mnt/pmem0/a=b:c");
    EXPECT_EQ(spec->size_bytes, 2 * kGiB);
    EXPECT_EQ(spec->segment_bytes, 64u * 1024);
    EXPECT_EQ(parse_device_spec("x=dir:/mnt")->size_bytes, 0u) << "what the filesystem has free";
}

TEST(DeviceSpec, TakesTheDefaultNameWhenNoneIsWritten) {
    EXPECT_EQ(parse_device_spec("ram:1G", "d0")->name, "d0");
    EXPECT_EQ(parse_device_spec("dir:/a=b", "d1")->name, "d1") << "this = belongs to the path";
    EXPECT_EQ(parse_device_spec("n=ram:1G", "d0")->name, "n");
}

TEST(DeviceSpec, RefusesWithTheWayToWriteIt) {
    for (const char* text : {"",
                             "a",
                             "a=",
                             "=ram:1G",
                             "ram:1G",
                             "a=ram:",
                             "a=ram:big",
                             "a=disk:1G",
                             "a=dir:",
                             "a=dir:relative",
                             "a=ram:1G,node=",
                             "a=ram:1G,node=x",
                             "a=ram:1G,node=-1",
                             "a=ram:1G,node=1x",
                             "a=ram:1G,size=1G",
                             "a=dir:/x,node=0",
                             "a=dir:/x,size=lots",
                             "a=ram:1G,color=red",
                             "a=ram:1G,",
                             "a=ram:1G,segment=5000",
                             "a=ram:1G,segment=2K",
                             "a=ram:1G,segment=2G",
                             "a/b=ram:1G",
                             "..=ram:1G",
                             ".a=ram:1G",
                             "-a=ram:1G",
                             "a b=ram:1G",
                             "a\nb=ram:1G"}) {
        const auto spec = parse_device_spec(text);
        ASSERT_FALSE(spec) << text;
        EXPECT_EQ(spec.error().code(), base::Code::Invalid) << text;
        EXPECT_NE(spec.error().message().find("write NAME=ram:SIZE"), std::string::npos) << text;
    }
}

TEST(DeviceSpec, NamesHaveUpTo63Characters) {
    EXPECT_TRUE(parse_device_spec(std::string(63, 'x') + "=ram:1G"));
    EXPECT_FALSE(parse_device_spec(std::string(64, 'x') + "=ram:1G"));
}

TEST(DeviceSpec, WhatIsPrintedParsesToTheSame) {
    for (const char* text : {"a=ram:512M", "a=ram:512M,node=0", "a=ram:1G,segment=4K", "a=dir:/x/y",
                             "a=dir:/x,size=3G,segment=1G"}) {
        const auto spec = parse_device_spec(text);
        ASSERT_TRUE(spec) << text;
        const auto again = parse_device_spec("a=" + spec->to_string());
        ASSERT_TRUE(again) << spec->to_string();
        EXPECT_EQ(again->to_string(), spec->to_string());
        EXPECT_EQ(again->kind, spec->kind);
        EXPECT_EQ(again->size_bytes, spec->size_bytes);
        EXPECT_EQ(again->path, spec->path);
        EXPECT_EQ(again->numa_node, spec->numa_node);
        EXPECT_EQ(again->segment_bytes, spec->segment_bytes);
    }
}

TEST(DeviceSpec, MadeUpTextIsRefusedOrSound) {
    base::testing::Random random;
    constexpr std::string_view kPieces[] = {
        "a",     "=",        "ram:", "dir:", "/", ",", "node=",
        "size=", "segment=", "4",    "K",    "G", "-", "99999999999999999999",
        "\xff",  ":"};
    for (int round = 0; round < 20000; ++round) {
        std::string text;
        for (auto count = random.below(10); count > 0; --count)
            text += kPieces[random.below(std::size(kPieces))];
        const auto spec = parse_device_spec(text);
        if (!spec) continue;
        ASSERT_TRUE(is_device_name(spec->name)) << text;
        ASSERT_TRUE(!spec->segment_bytes || is_segment_size(*spec->segment_bytes)) << text;
        ASSERT_TRUE(spec->kind == DeviceKind::Ram || spec->path.starts_with('/')) << text;
    }
}

TEST(ChooseSegmentBytes, IsAPowerOfTwoInItsLimits) {
    base::testing::Random random;
    for (int round = 0; round < 10000; ++round) {
        const auto capacity = random.next() >> random.below(64);
        const auto size = choose_segment_bytes(capacity);
        ASSERT_TRUE(std::has_single_bit(size)) << capacity;
        ASSERT_GE(size, 2 * kMiB);
        ASSERT_LE(size, kGiB);
        if (capacity >= 256 * kMiB && capacity < 256 * kGiB) {
            ASSERT_GE(capacity / size, 128u) << capacity;
            ASSERT_LE(capacity / size, 256u) << capacity;
        }
    }
}

TEST(ChooseSegmentBytes, KnownSizes) {
    EXPECT_EQ(choose_segment_bytes(0), 2 * kMiB);
    EXPECT_EQ(choose_segment_bytes(8 * kMiB), 2 * kMiB);
    EXPECT_EQ(choose_segment_bytes(512 * kMiB), 4 * kMiB);
    EXPECT_EQ(choose_segment_bytes(64 * kGiB), 512 * kMiB);
    EXPECT_EQ(choose_segment_bytes(UINT64_MAX), kGiB);
}

}  // namespace
}  // namespace refault::device
