// Who may look, who may change: by user, by token; and what a token's file must be like.
#include "daemon/control_rights.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace refault::daemon {
namespace {

constexpr const char* kChange = "change-0123456789abcdef";
constexpr const char* kLook = "look-0123456789abcdefgh";

TEST(ControlRights, UsersLookUnlessTheyAreTheDaemonsOrOfTheGroup) {
    ControlRights rights;
    rights.changing_group = 4711;
    EXPECT_EQ(rights.of_user({0, 0, {}, 1}), Role::Changer);
    EXPECT_EQ(rights.of_user({::geteuid(), 61001, {}, 1}), Role::Changer);
    EXPECT_EQ(rights.of_user({61001, 61001, {7, 8}, 1}), Role::Looker);
    EXPECT_EQ(rights.of_user({61001, 4711, {}, 1}), Role::Changer);
    EXPECT_EQ(rights.of_user({61001, 61001, {7, 4711}, 1}), Role::Changer);
    rights.changing_group.reset();
    EXPECT_EQ(rights.of_user({61001, 4711, {}, 1}), Role::Looker);
}

TEST(ControlRights, ATokenIsTakenAsAWholeAndOnlyWhereThereIsOne) {
    ControlRights rights;
    EXPECT_EQ(rights.of_header("Bearer "), Role::Nobody) << "no token is set";
    rights.change_token = kChange;
    rights.look_token = kLook;
    EXPECT_EQ(rights.of_header(std::string("Bearer ") + kChange), Role::Changer);
    EXPECT_EQ(rights.of_header(std::string("Bearer ") + kLook), Role::Looker);
    EXPECT_EQ(rights.of_header(kChange), Role::Nobody);
    EXPECT_EQ(rights.of_header(""), Role::Nobody);
    EXPECT_EQ(rights.of_header("Bearer "), Role::Nobody);
    const std::string token = kChange;
    for (std::size_t i = 0; i < token.size(); ++i) {
        EXPECT_EQ(rights.of_header("Bearer " + token.substr(0, i)), Role::Nobody) << i;
        auto other = token;
        other[i] = static_cast<char>(other[i] ^ 1);
        EXPECT_EQ(rights.of_header("Bearer " + other), Role::Nobody) << i;
    }
    EXPECT_EQ(rights.of_header("Bearer " + token + token), Role::Nobody);
}

class TokenFile : public ::testing::Test {
  protected:
    void SetUp() override { ASSERT_NE(::mkdtemp(top_.data()), nullptr); }
    void TearDown() override { std::filesystem::remove_all(top_); }
    std::string write(const std::string& text, mode_t mode) {
        const auto path = top_ + "/token";
        std::ofstream(path) << text;
        ::chmod(path.c_str(), mode);
        return path;
    }
    std::string top_ = "/dev/shm/refault-token-XXXXXX";
};

TEST_F(TokenFile, IsOneLineThatNobodyElseCanRead) {
    const auto read = read_token(write(std::string(kChange) + "\n", 0600));
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(*read, kChange);
    for (const mode_t mode : {0640, 0604, 0620, 0602}) {
        const auto refused = read_token(write(kChange, mode));
        ASSERT_FALSE(refused) << mode;
        EXPECT_EQ(refused.error().code(), base::Code::Denied);
        EXPECT_NE(refused.error().message().find("chmod 600"), std::string::npos);
    }
    EXPECT_FALSE(read_token(write("short\n", 0600)));
    EXPECT_FALSE(read_token(write("", 0600)));
    EXPECT_FALSE(read_token(top_ + "/none"));
    EXPECT_FALSE(read_token(top_)) << "a directory";
}

TEST_F(TokenFile, IsNoLinkAndNobodyElses) {
    const auto path = write(kChange, 0600);
    ASSERT_EQ(::symlink(path.c_str(), (top_ + "/link").c_str()), 0);
    EXPECT_FALSE(read_token(top_ + "/link"));
    if (::geteuid() != 0) GTEST_SKIP() << "giving a file away takes root";
    ASSERT_EQ(::chown(path.c_str(), 61001, 61001), 0);
    EXPECT_FALSE(read_token(path));
}

}  // namespace
}  // namespace refault::daemon
