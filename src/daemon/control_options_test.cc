// The options of rights that contradict each other, and addresses that are none to listen at.
#include "daemon/control_options.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "daemon/control_listener.h"

namespace refault::daemon {
namespace {

class RightsOptionsTest : public ::testing::Test {
  protected:
    void SetUp() override { ASSERT_NE(::mkdtemp(top_.data()), nullptr); }
    void TearDown() override { std::filesystem::remove_all(top_); }
    std::string write_token(const std::string& name, const std::string& token) {
        const auto path = top_ + "/" + name;
        std::ofstream(path) << token << "\n";
        ::chmod(path.c_str(), 0600);
        return path;
    }
    std::string top_ = "/dev/shm/refault-rights-XXXXXX";
};

TEST_F(RightsOptionsTest, WhoMayLookHasAnotherToken) {
    RightsOptions options;
    options.tcp_address = "127.0.0.1:7070";
    options.token_file = write_token("change", "0123456789abcdef");
    options.look_token_file = options.token_file;
    for (const auto& look : {options.token_file, write_token("look", "0123456789abcdef")}) {
        options.look_token_file = look;
        const auto refused = take_rights(options);
        ASSERT_FALSE(refused) << look;
        EXPECT_NE(refused.error().message().find("make another"), std::string::npos);
    }
    options.look_token_file = write_token("look", "fedcba9876543210");
    EXPECT_TRUE(take_rights(options));
}

TEST(ListenTcp, APortIsANumberFrom1To65535) {
    for (const char* port : {"0", "65536", "99999", "4294967297", "-1", "+80", "80x", ""}) {
        const auto refused = listen_tcp(std::string("127.0.0.1:") + port);
        ASSERT_FALSE(refused) << port;
        EXPECT_NE(refused.error().message().find("1 to 65535"), std::string::npos) << port;
    }
    for (const char* address : {"127.0.0.1", ":80", "nowhere:80"})
        EXPECT_FALSE(listen_tcp(address)) << address;
}

}  // namespace
}  // namespace refault::daemon
