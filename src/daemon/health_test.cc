// What a probe is told, of pools made up.
#include "daemon/health.h"

#include <gtest/gtest.h>

namespace refault::daemon {
namespace {

using State = HealthFacts::DeviceState;

HealthFacts good_pool() {
    HealthFacts facts;
    facts.metadata_copies = 2;
    facts.devices = {{"a", State::InService}, {"b", State::InService}};
    return facts;
}

std::vector<std::string> codes_of(const Health& health) {
    std::vector<std::string> codes;
    for (const auto& reason : health.reasons) codes.push_back(reason.code);
    return codes;
}

using Codes = std::vector<std::string>;

TEST(Health, AGoodPoolIsOkAndSaysNothingElse) {
    const auto health = judge(good_pool());
    EXPECT_TRUE(health.is_ok());
    EXPECT_EQ(to_json(health), (nlohmann::json{{"status", "ok"}}));
}

TEST(Health, WithoutAPoolNothingIsReady) {
    HealthFacts facts;
    facts.has_pool = false;
    const auto health = judge(facts);
    EXPECT_FALSE(health.is_ready);
    EXPECT_EQ(codes_of(health), Codes{"no-pool"});
    EXPECT_EQ(to_json(health)["status"], "not-ready");
    facts.is_opening = true;
    EXPECT_FALSE(judge(facts).is_ready);
    EXPECT_EQ(codes_of(judge(facts)), Codes{"pool-opening"});
}

TEST(Health, LostMetadataTakesNoChanges) {
    auto facts = good_pool();
    facts.is_metadata_lost = true;
    facts.metadata_copies = 0;
    const auto health = judge(facts);
    EXPECT_FALSE(health.is_ready);
    EXPECT_EQ(codes_of(health), Codes{"metadata-lost"});
}

TEST(Health, OneMetadataCopyIsEnoughOnlyForOneDevice) {
    auto facts = good_pool();
    facts.metadata_copies = 1;
    EXPECT_EQ(codes_of(judge(facts)), Codes{"metadata-one-copy"});
    EXPECT_TRUE(judge(facts).is_ready);
    // One that leaves takes no copy.
    facts.devices[1].state = State::Leaving;
    EXPECT_TRUE(judge(facts).is_ok());
    facts.devices.pop_back();
    EXPECT_TRUE(judge(facts).is_ok());
}

TEST(Health, WhoHasNotComeBackIsNamed) {
    auto facts = good_pool();
    facts.absent = "pid 7 (w) has not come back";
    const auto health = judge(facts);
    EXPECT_EQ(codes_of(health), Codes{"clients-absent"});
    EXPECT_TRUE(health.is_ready);
    EXPECT_NE(health.reasons.front().message.find("pid 7"), std::string::npos);
}

TEST(Health, ADeviceThatLeavesByRequestIsWell) {
    auto facts = good_pool();
    facts.devices.push_back({"c", State::Leaving});
    EXPECT_TRUE(judge(facts).is_ok());
}

TEST(Health, DevicesInTroubleAreNamedEachWithWhatToDo) {
    auto facts = good_pool();
    facts.devices.push_back({"c", State::Lost});
    facts.devices.push_back({"d", State::Failing});
    facts.devices.push_back({"e", State::Damaged});
    const auto health = judge(facts);
    EXPECT_TRUE(health.is_ready);
    EXPECT_FALSE(health.is_ok());
    EXPECT_EQ(codes_of(health), (Codes{"device-lost", "device-failing", "device-damaged"}));
    const auto json = to_json(health);
    EXPECT_EQ(json["status"], "degraded");
    EXPECT_EQ(json["reasons"][0]["device"], "c");
    EXPECT_NE(json["reasons"][0]["message"].get<std::string>().find("refault device add c="),
              std::string::npos);
    EXPECT_NE(json["reasons"][2]["message"].get<std::string>().find("refault device pull e"),
              std::string::npos);
}

TEST(Health, WhatIsLostOrShortIsSaidWithFigures) {
    auto facts = good_pool();
    facts.lost_bytes = 4096;
    facts.lost_files = 1;
    facts.unplaced_copy_bytes = 1 << 20;
    facts.retired_bytes = 4096;
    const auto health = judge(facts);
    EXPECT_TRUE(health.is_ready);
    EXPECT_EQ(codes_of(health), (Codes{"ranges-lost", "copies-unplaced", "pages-retired"}));
    EXPECT_NE(health.reasons[0].message.find("4.0 KiB in 1 file "), std::string::npos);
    EXPECT_NE(health.reasons[1].message.find("1.0 MiB"), std::string::npos);
    EXPECT_FALSE(to_json(health)["reasons"][0].contains("device"));
}

}  // namespace
}  // namespace refault::daemon
