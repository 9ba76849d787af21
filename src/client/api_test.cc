// The C API's arguments: what is wrong is -EINVAL with a sentence, NULL everywhere is no crash.
#include <climits>

#include "client/test_session.h"

namespace refault::client::testing {
namespace {

using ApiTest = SessionTest;

int visit_none(const char*, const rf_stat*, void*) {
    return 0;
}

TEST(ApiWithoutSession, NullIsInvalid) {
    rf_stat stat;
    rf_file* file = nullptr;
    rf_mapping* mapping = nullptr;
    char detail[100] = "";
    EXPECT_EQ(rf_connect("/x", nullptr, detail, sizeof detail), -EINVAL);
    EXPECT_STRNE(detail, "");
    rf_disconnect(nullptr);
    EXPECT_STREQ(rf_pool_name(nullptr), "");
    EXPECT_EQ(rf_handles_kernel_faults(nullptr), 0);
    EXPECT_EQ(rf_create(nullptr, "/x", 0600, 0, &file), -EINVAL);
    EXPECT_EQ(rf_open(nullptr, "/x", RF_READ, &file), -EINVAL);
    EXPECT_EQ(rf_close(nullptr), -EINVAL);
    EXPECT_EQ(rf_resize(nullptr, 1), -EINVAL);
    EXPECT_EQ(rf_file_stat(nullptr, &stat), -EINVAL);
    EXPECT_EQ(rf_path_stat(nullptr, "/x", &stat), -EINVAL);
    EXPECT_EQ(rf_map(nullptr, 0, 4096, RF_READ, &mapping), -EINVAL);
    EXPECT_EQ(rf_address(nullptr), nullptr);
    EXPECT_EQ(rf_length(nullptr), 0u);
    EXPECT_EQ(rf_persist(nullptr, nullptr, 0), -EINVAL);
    EXPECT_EQ(rf_unmap(nullptr), -EINVAL);
    EXPECT_EQ(rf_list(nullptr, "/", visit_none, nullptr), -EINVAL);
    EXPECT_EQ(rf_unlink(nullptr, "/x"), -EINVAL);
    EXPECT_EQ(rf_mkdir(nullptr, "/x", 0700), -EINVAL);
    EXPECT_EQ(rf_rmdir(nullptr, "/x"), -EINVAL);
    EXPECT_EQ(rf_rename(nullptr, "/x", "/y"), -EINVAL);
    EXPECT_GT(rf_error_detail(nullptr, detail, sizeof detail), 0u);
    rf_version(nullptr, nullptr);
}

TEST(ApiWithoutSession, VersionAndTexts) {
    int major = -1, minor = -1;
    rf_version(&major, &minor);
    EXPECT_EQ(major, RF_VERSION_MAJOR);
    EXPECT_EQ(minor, RF_VERSION_MINOR);
    EXPECT_STREQ(rf_strerror(0), "Success");
    EXPECT_STREQ(rf_strerror(-ENOSPC), "No space left on device");
    EXPECT_STREQ(rf_strerror(-100000), "unknown error");
    EXPECT_STREQ(rf_strerror(INT_MIN), "unknown error");
}

TEST(ApiWithoutSession, ConnectFillsADetailOfAnySize) {
    rf_session* session = nullptr;
    EXPECT_LT(rf_connect("/tmp/refault-no-such.sock", &session, nullptr, 0), 0);
    char detail[4] = "###";
    EXPECT_LT(rf_connect("/tmp/refault-no-such.sock", &session, detail, 1), 0);
    EXPECT_STREQ(detail, "");
    EXPECT_LT(rf_connect("/tmp/refault-no-such.sock", &session, detail, sizeof detail), 0);
    EXPECT_STREQ(detail, "no ");
    EXPECT_EQ(rf_connect(std::string(200, 'x').c_str(), &session, nullptr, 0), -EINVAL);
}

TEST_F(ApiTest, PathsAndPointers) {
    rf_file* file = nullptr;
    rf_stat stat;
    const std::string long_path(wire::kPathBytesMax + 1, 'p');
    EXPECT_EQ(rf_create(session_, nullptr, 0600, 0, &file), -EINVAL);
    EXPECT_EQ(rf_create(session_, "/x", 0600, 0, nullptr), -EINVAL);
    EXPECT_EQ(rf_open(session_, nullptr, RF_READ, &file), -EINVAL);
    EXPECT_EQ(rf_open(session_, "/x", RF_READ, nullptr), -EINVAL);
    EXPECT_EQ(rf_file_stat(file_, nullptr), -EINVAL);
    EXPECT_EQ(rf_path_stat(session_, nullptr, &stat), -EINVAL);
    EXPECT_EQ(rf_path_stat(session_, "/x", nullptr), -EINVAL);
    EXPECT_EQ(rf_list(session_, nullptr, visit_none, nullptr), -EINVAL);
    EXPECT_EQ(rf_list(session_, "/", nullptr, nullptr), -EINVAL);
    EXPECT_EQ(rf_unlink(session_, nullptr), -EINVAL);
    EXPECT_EQ(rf_mkdir(session_, nullptr, 0700), -EINVAL);
    EXPECT_EQ(rf_rmdir(session_, nullptr), -EINVAL);
    EXPECT_EQ(rf_rename(session_, "/x", nullptr), -EINVAL);
    EXPECT_EQ(rf_rename(session_, nullptr, "/x"), -EINVAL);
    EXPECT_EQ(rf_create(session_, long_path.c_str(), 0600, 0, &file), -ENAMETOOLONG);
    EXPECT_EQ(rf_open(session_, long_path.c_str(), RF_READ, &file), -ENAMETOOLONG);
    EXPECT_EQ(rf_path_stat(session_, long_path.c_str(), &stat), -ENAMETOOLONG);
    EXPECT_EQ(rf_list(session_, long_path.c_str(), visit_none, nullptr), -ENAMETOOLONG);
    EXPECT_EQ(rf_unlink(session_, long_path.c_str()), -ENAMETOOLONG);
    EXPECT_EQ(rf_rename(session_, "/x", long_path.c_str()), -ENAMETOOLONG);
    // None of it has cost the session.
    EXPECT_EQ(rf_file_stat(file_, &stat), 0) << detail_of(session_);
}

TEST_F(ApiTest, Flags) {
    rf_file* file = nullptr;
    for (const int flags : {+RF_READ, +RF_WRITE, RF_EXCLUSIVE | RF_POPULATE, 16, -1})
        EXPECT_EQ(rf_create(session_, "/x", 0600, flags, &file), -EINVAL) << flags;
    for (const int flags : {0, +RF_WRITE, RF_READ | RF_EXCLUSIVE, RF_READ | RF_POPULATE, 16, -1})
        EXPECT_EQ(rf_open(session_, kPath, flags, &file), -EINVAL) << flags;
    rf_mapping* mapping = nullptr;
    for (const int flags : {0, +RF_WRITE, +RF_POPULATE, RF_READ | RF_EXCLUSIVE, 16, -1})
        EXPECT_EQ(rf_map(file_, 0, 4096, flags, &mapping), -EINVAL) << flags;
    EXPECT_EQ(mapping, nullptr);
    EXPECT_NE(detail_of(session_).find("flags"), std::string::npos);
}

TEST_F(ApiTest, RangesToMap) {
    rf_mapping* mapping = nullptr;
    constexpr std::uint64_t kHuge = ~std::uint64_t{0} - 4095;
    EXPECT_EQ(rf_map(file_, 0, 4096, RF_READ, nullptr), -EINVAL);
    EXPECT_EQ(rf_map(file_, 1, 4096, RF_READ, &mapping), -EINVAL);
    EXPECT_EQ(rf_map(file_, 0, 4095, RF_READ, &mapping), -EINVAL);
    EXPECT_EQ(rf_map(file_, 0, 0, RF_READ, &mapping), -EINVAL);
    EXPECT_EQ(rf_map(file_, kHuge, 4096, RF_READ, &mapping), -EINVAL);
    EXPECT_EQ(rf_map(file_, 4096, kHuge, RF_READ, &mapping), -EINVAL);
    EXPECT_EQ(rf_map(file_, 0, std::uint64_t{1} << 60, RF_READ, &mapping), -ENOMEM);
    EXPECT_EQ(mapping, nullptr);
    EXPECT_TRUE(daemon_->mappings().empty());
}

}  // namespace
}  // namespace refault::client::testing
