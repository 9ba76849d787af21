// What the command line says and refuses to do about losses.
#include <filesystem>

#include "tests/loss_support.h"

namespace refault::tests {
namespace {

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

class CliLoss : public ::testing::Test {
  protected:
    void SetUp() override {
        make_file(pool_, "/one", 1);
        place_ = place_of(pool_, "/one", 2 * kPage);
    }
    CommandResult run(const std::vector<std::string>& words) { return run_refault(pool_, words); }
    std::string offset() const { return std::to_string(place_.offset); }
    bool is_lost() { return !pool_.get("/v1/lost")["lost"].empty(); }

    Pool pool_{kThree};
    Place place_;
};

TEST_F(CliLoss, ADryRunFailsNothing) {
    const auto whole = run({"fail", place_.device, "--all", "--dry-run", "--yes"});
    EXPECT_EQ(whole.status, 0) << whole.err;
    EXPECT_TRUE(has(whole.out, "/one bytes 0x0-0x100000, copy 0: would be LOST")) << whole.out;
    EXPECT_EQ(pool_.get("/v1/devices/" + place_.device).value("state", ""), "in-service");
    const auto page = run({"fail", place_.device, offset(), "1", "--dry-run", "--json"});
    const auto plan = Json::parse(page.out, nullptr, false);
    ASSERT_EQ(plan["parts"].size(), 1u) << page.out;
    EXPECT_EQ(plan["parts"][0].value("outcome", ""), "lost");
    EXPECT_EQ(plan.value("device_end", 0ull) - plan.value("device_begin", 0ull), kPage);
    EXPECT_FALSE(is_lost());
}

TEST_F(CliLoss, TheOnlyCopyIsNotGivenUpUnasked) {
    const auto refused = run({"fail", place_.device, offset(), "4096"});
    EXPECT_EQ(refused.status, 2);
    EXPECT_TRUE(has(refused.err, "/one bytes 0x2000-0x3000; add --yes")) << refused.err;
    EXPECT_EQ(run({"fail", place_.device, "--all"}).status, 2);
    EXPECT_EQ(run({"fail", place_.device, "0", "4096", "--all", "--yes"}).status, 2);
    const auto bare = run({"fail", place_.device, "--yes"});
    EXPECT_TRUE(has(bare.err, "say OFFSET LENGTH, or --all")) << bare.err;
    EXPECT_EQ(
        run({"fail", place_.device, "0", "4096", "--yes", "--kind", "surprise-removal"}).status, 1);
    EXPECT_FALSE(is_lost());
    EXPECT_EQ(run({"fail", place_.device, offset(), "4096", "--yes"}).status, 0);
    EXPECT_TRUE(is_lost());
}

TEST_F(CliLoss, WhatHasACopyIsRepairedWithoutAsking) {
    make_file(pool_, "/two", 2);
    const auto place = place_of(pool_, "/two", 0);
    const std::vector<std::string> words{"fail", place.device, std::to_string(place.offset), "4K"};
    auto dry = words;
    dry.push_back("--dry-run");
    EXPECT_TRUE(has(run(dry).out, "would be repaired from another copy"));
    EXPECT_EQ(run(words).status, 0);
    EXPECT_FALSE(is_lost());
}

TEST_F(CliLoss, LostBytesAreNamedAndTheRestIsSaved) {
    poison(pool_, place_);
    const auto cat = run({"cat", "/one"});
    EXPECT_EQ(cat.status, 1);
    EXPECT_TRUE(has(cat.err, "bytes 8192 to 12288 of /one are lost; see: refault lost")) << cat.err;
    EXPECT_EQ(run({"cat", "/one", "--length", "8192"}).out.size(), 8192u);
    EXPECT_EQ(run({"cat", "/one", "--offset", "0x3000"}).out.size(), kFileBytes - 0x3000);
    TemporaryDirectory scratch;
    EXPECT_EQ(run({"cp", "pool:/one", scratch.path() + "/out"}).status, 1);
    EXPECT_FALSE(std::filesystem::exists(scratch.path() + "/out"));
    EXPECT_TRUE(has(run({"stat", "/one"}).out, "lost    bytes 0x2000-0x3000"));
    EXPECT_TRUE(has(run({"resync"}).out, "4.0 KiB are lost"));
    EXPECT_TRUE(has(run({"pool", "status"}).out, "4.0 KiB in 1 file"));
    EXPECT_EQ(run({"punch", "/one", "0x100000", "4096", "--yes"}).status, 1);
    EXPECT_TRUE(has(run({"punch", "/one", "0x2000", "4096", "--dry-run"}).out, "nothing was"));
    EXPECT_TRUE(is_lost());
    const auto punched = run({"punch", "/one", "0x2000", "4096", "--yes"});
    EXPECT_TRUE(has(punched.out, "4.0 KiB were lost and can be used again")) << punched.out;
    EXPECT_FALSE(is_lost());
}

TEST_F(CliLoss, ALostDeviceIsNotSaidToBePulled) {
    ASSERT_EQ(run({"fail", place_.device, "--all", "--yes"}).status, 0);
    for (const auto& words :
         std::vector<std::vector<std::string>>{{"device", "pull", place_.device},
                                               {"device", "detach", place_.device},
                                               {"locate", place_.device, "0"},
                                               {"fail", place_.device, "0", "4096"}}) {
        const auto result = run(words);
        EXPECT_EQ(result.status, 1) << words[0];
        EXPECT_TRUE(has(result.err, "is lost")) << result.err;
        EXPECT_TRUE(has(result.err, "refault device add " + place_.device + "=")) << result.err;
    }
    EXPECT_TRUE(has(run({"pool", "status"}).out, "device " + place_.device + " is lost"));
}

TEST_F(CliLoss, SettingsAreShownAndSaidOfWhat) {
    EXPECT_EQ(run({"set", "/one"}).out, "replicas=1 on-loss=signal\n");
    EXPECT_TRUE(
        has(run({"set", "/", "replicas=2", "--wait"}).out, "for files made in it from now on"));
}

TEST_F(CliLoss, AnUnknownCommandHasNoHelp) {
    EXPECT_EQ(run({"nonsense", "--help"}).status, 2);
    EXPECT_EQ(run({"pool", "nonsense", "--help"}).status, 2);
    EXPECT_EQ(run({"pool", "--help"}).status, 0);
}

}  // namespace
}  // namespace refault::tests
