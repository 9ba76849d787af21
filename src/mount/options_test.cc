// The options of a mount.
#include "mount/options.h"

#include <gtest/gtest.h>

namespace refault::mount {
namespace {

using std::chrono::milliseconds;

TEST(MountOptions, RootAllowsOthersUnlessToldOtherwise) {
    EXPECT_TRUE(parse_mount_options("/m", "", true)->allows_others);
    EXPECT_FALSE(parse_mount_options("/m", "no_allow_other", true)->allows_others);
    EXPECT_FALSE(parse_mount_options("/m", "", false)->allows_others);
    EXPECT_TRUE(parse_mount_options("/m", "allow_other", false)->allows_others);
}

TEST(MountOptions, ThoseOfFstabArePassedOverOrOn) {
    const auto options =
        parse_mount_options("/m", "defaults,noauto,x-systemd.automount,nosuid,,noexec,ro", true);
    ASSERT_TRUE(options) << options.error().message();
    EXPECT_TRUE(options->is_read_only);
    EXPECT_EQ(options->kernel_options, (std::vector<std::string>{"nosuid", "noexec"}));
}

TEST(MountOptions, PatienceIsANumberAboveZero) {
    EXPECT_EQ(parse_mount_options("/m", "patience_ms=250", true)->patience, milliseconds(250));
    for (const char* wrong : {"patience_ms=", "patience_ms=0", "patience_ms=1s", "patience_ms=-1"})
        EXPECT_FALSE(parse_mount_options("/m", wrong, true)) << wrong;
}

TEST(MountOptions, AnUnknownOneIsRefusedByName) {
    const auto options = parse_mount_options("/m", "ro,writebakc", true);
    ASSERT_FALSE(options);
    EXPECT_NE(options.error().message().find("writebakc"), std::string::npos);
    EXPECT_FALSE(parse_mount_options("relative/path", "", true));
}

}  // namespace
}  // namespace refault::mount
