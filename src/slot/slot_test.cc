// Slots: the emulated one remembers, the sysfs one writes exactly what the kernel's PCI hot-plug
// core understands.
#include "slot/slot.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace refault::slot {
namespace {

namespace fs = std::filesystem;
using base::Code;

constexpr Indicator kIndicators[] = {Indicator::On, Indicator::Blinking, Indicator::Off};

TEST(EmulatedSlot, ShowsWhatItIsTold) {
    for (const char* text : {"", "emulated"}) {
        auto slot = make_slot(text);
        ASSERT_TRUE(slot.ok()) << slot.error().message();
        EXPECT_EQ((*slot)->describe(), "emulated");
        EXPECT_EQ((*slot)->power(), Indicator::On);
        EXPECT_EQ((*slot)->attention(), Indicator::Off);
        for (const auto power : kIndicators)
            for (const auto attention : kIndicators) {
                ASSERT_TRUE((*slot)->set_power(power).ok());
                ASSERT_TRUE((*slot)->set_attention(attention).ok());
                EXPECT_EQ((*slot)->power(), power);
                EXPECT_EQ((*slot)->attention(), attention);
            }
    }
}

TEST(Indicator, EveryStateHasAName) {
    EXPECT_EQ(indicator_name(Indicator::On), "on");
    EXPECT_EQ(indicator_name(Indicator::Blinking), "blinking");
    EXPECT_EQ(indicator_name(Indicator::Off), "off");
}

// A directory with plain files in the place of /sys/bus/pci/slots.
class SysfsSlot : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string path = "/dev/shm/refault-slot-test-XXXXXX";
        ASSERT_NE(::mkdtemp(path.data()), nullptr);
        root_ = path;
        fs::create_directory(root_ / "7-1");
        put("power", "1\n");
        put("attention", "0\n");
    }
    void TearDown() override {
        std::error_code ignored;
        fs::remove_all(root_, ignored);
    }
    void put(const std::string& file, const std::string& text) {
        std::ofstream(root_ / "7-1" / file) << text;
    }
    std::string get(const std::string& file) const {
        std::ifstream stream(root_ / "7-1" / file);
        return {std::istreambuf_iterator<char>(stream), {}};
    }
    std::unique_ptr<Slot> slot() const {
        auto made = make_slot("sysfs:7-1", root_);
        EXPECT_TRUE(made.ok()) << made.error().message();
        return made ? std::move(*made) : nullptr;
    }
    fs::path root_;
};

TEST_F(SysfsSlot, PowerOffWritesZeroAndPowerOnWritesOne) {
    const auto made = slot();
    EXPECT_EQ(made->describe(), "sysfs:7-1");
    ASSERT_TRUE(made->set_power(Indicator::Off).ok());
    EXPECT_EQ(get("power"), "0");
    EXPECT_EQ(made->power(), Indicator::Off);
    ASSERT_TRUE(made->set_power(Indicator::On).ok());
    EXPECT_EQ(get("power"), "1");
    EXPECT_EQ(made->power(), Indicator::On);
}

TEST_F(SysfsSlot, WhatPowerReadsAlreadyIsNotWritten) {
    const auto made = slot();
    ASSERT_TRUE(made->set_power(Indicator::On).ok());
    EXPECT_EQ(get("power"), "1\n") << "the file is as it was";
    put("power", "0\n");
    ASSERT_TRUE(made->set_power(Indicator::Off).ok());
    EXPECT_EQ(get("power"), "0\n");
}

TEST_F(SysfsSlot, BlinkingIsRememberedAndNotWritten) {
    const auto made = slot();
    ASSERT_TRUE(made->set_power(Indicator::Blinking).ok());
    EXPECT_EQ(made->power(), Indicator::Blinking);
    EXPECT_EQ(get("power"), "1\n") << "a write here would cut the power of a device in use";
}

TEST_F(SysfsSlot, AttentionIsWritten) {
    const auto made = slot();
    ASSERT_TRUE(made->set_attention(Indicator::On).ok());
    EXPECT_EQ(get("attention"), "1");
    ASSERT_TRUE(made->set_attention(Indicator::Off).ok());
    EXPECT_EQ(get("attention"), "0");
    EXPECT_EQ(get("power"), "1\n");
}

TEST_F(SysfsSlot, StartsWithWhatTheKernelShows) {
    put("power", "0\n");
    put("attention", "1\n");
    const auto made = slot();
    EXPECT_EQ(made->power(), Indicator::Off);
    EXPECT_EQ(made->attention(), Indicator::On);
}

TEST_F(SysfsSlot, AFailedWriteIsAnErrorAndChangesNothing) {
    const auto made = slot();
    fs::remove_all(root_ / "7-1");
    for (const auto state : {Indicator::Off, Indicator::On}) {
        const auto done = made->set_power(state);
        ASSERT_FALSE(done.ok());
        EXPECT_NE(done.error().message().find("slot 7-1"), std::string::npos)
            << done.error().message();
    }
    EXPECT_FALSE(made->set_attention(Indicator::On).ok());
    EXPECT_EQ(made->power(), Indicator::On);
    EXPECT_EQ(made->attention(), Indicator::Off);
}

TEST_F(SysfsSlot, RefusesWhatIsNoSlot) {
    for (const char* text : {"sysfs:", "sysfs:.", "sysfs:..", "sysfs:7-1/x", "sysfs:../7-1",
                             "pci:7-1", "7-1", "EMULATED"}) {
        const auto made = make_slot(text, root_);
        ASSERT_FALSE(made.ok()) << text;
        EXPECT_EQ(made.error().code(), Code::Invalid) << text;
    }
    const auto missing = make_slot("sysfs:8", root_);
    ASSERT_FALSE(missing.ok());
    EXPECT_EQ(missing.error().code(), Code::NotFound);
    EXPECT_NE(missing.error().message().find("/8/power"), std::string::npos)
        << missing.error().message();
    fs::remove(root_ / "7-1" / "attention");
    EXPECT_FALSE(make_slot("sysfs:7-1", root_).ok());
}

}  // namespace
}  // namespace refault::slot
