// The run directory is one daemon's.
#include "daemon/run_dir.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace refault::daemon {
namespace {

class RunDir : public ::testing::Test {
  protected:
    void SetUp() override { ASSERT_NE(::mkdtemp(top_.data()), nullptr); }
    void TearDown() override {
        std::error_code failure;
        std::filesystem::remove_all(top_, failure);
    }
    std::string top_ = "/tmp/refault-run-XXXXXX";
};

TEST_F(RunDir, ASecondDaemonIsRefusedUntilTheFirstHasGone) {
    auto first = take_run_dir(top_ + "/run");
    ASSERT_TRUE(first) << first.error().message();
    auto second = take_run_dir(top_ + "/run");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), base::Code::Busy);
    EXPECT_NE(second.error().message().find("--run-dir"), std::string::npos)
        << second.error().message();
    EXPECT_TRUE(take_run_dir(top_ + "/other"));
    first->reset();
    EXPECT_TRUE(take_run_dir(top_ + "/run"));
}

TEST_F(RunDir, TheKeyOutlivesItsDaemonAndIsNobodyElses) {
    auto directory = take_run_dir(top_ + "/run");
    ASSERT_TRUE(directory);
    const auto first = take_ticket_key(directory->get());
    ASSERT_TRUE(first) << first.error().message();
    const auto file = top_ + "/run/session.key";
    struct stat status {};
    ASSERT_EQ(::stat(file.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
    EXPECT_EQ(*take_ticket_key(directory->get()), *first);
    // What others could have read, or written, signs nothing.
    ASSERT_EQ(::chmod(file.c_str(), 0644), 0);
    EXPECT_EQ(take_ticket_key(directory->get()).error().code(), base::Code::Denied);
    ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
    ASSERT_EQ(::truncate(file.c_str(), 31), 0);
    EXPECT_FALSE(take_ticket_key(directory->get()));
    ASSERT_EQ(::unlink(file.c_str()), 0);
    ASSERT_EQ(::symlink("/dev/zero", file.c_str()), 0);
    EXPECT_FALSE(take_ticket_key(directory->get()));
    ASSERT_EQ(::unlink(file.c_str()), 0);
    EXPECT_NE(*take_ticket_key(directory->get()), *first);
}

TEST_F(RunDir, TheEnvironmentSaysWhereItIs) {
    ASSERT_EQ(::setenv("REFAULT_RUN_DIR", "/tmp/elsewhere", 1), 0);
    EXPECT_EQ(default_run_dir(), "/tmp/elsewhere");
    ASSERT_EQ(::unsetenv("REFAULT_RUN_DIR"), 0);
    EXPECT_NE(default_run_dir(), "/tmp/elsewhere");
}

TEST_F(RunDir, WhatIsNotOursIsRefused) {
    ASSERT_EQ(::symlink("/tmp", (top_ + "/link").c_str()), 0);
    EXPECT_FALSE(take_run_dir(top_ + "/link"));
    EXPECT_FALSE(take_run_dir(top_ + "/missing/run"));
    ASSERT_EQ(::mkdir((top_ + "/shared").c_str(), 0755), 0);
    for (const mode_t mode : {0775, 0757, 01777}) {
        ASSERT_EQ(::chmod((top_ + "/shared").c_str(), mode), 0);
        auto shared = take_run_dir(top_ + "/shared");
        ASSERT_FALSE(shared);
        EXPECT_NE(shared.error().message().find("chmod go-w"), std::string::npos);
    }
    ASSERT_EQ(::chmod((top_ + "/shared").c_str(), 0755), 0);
    EXPECT_TRUE(take_run_dir(top_ + "/shared"));
    if (::geteuid() != 0) GTEST_SKIP() << "only root can give a directory away";
    ASSERT_EQ(::mkdir((top_ + "/theirs").c_str(), 0777), 0);
    ASSERT_EQ(::chown((top_ + "/theirs").c_str(), 65534, 65534), 0);
    auto theirs = take_run_dir(top_ + "/theirs");
    ASSERT_FALSE(theirs);
    EXPECT_EQ(theirs.error().code(), base::Code::Denied);
}

}  // namespace
}  // namespace refault::daemon
