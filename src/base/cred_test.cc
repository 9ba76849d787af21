// The permission rule of files, over every mode.
#include "base/cred.h"

#include <gtest/gtest.h>

namespace refault::base {
namespace {

constexpr uid_t kOwner = 100;
constexpr gid_t kGroup = 200;

Cred person(uid_t uid, gid_t gid, std::vector<gid_t> groups = {}) {
    return {uid, gid, std::move(groups), 1};
}

// Which three bits of the mode decide, for every mode and wish.
void expect_shift(const Cred& who, int shift, const char* name) {
    for (mode_t mode = 0; mode < 01000; ++mode)
        for (int want = 0; want < 8; ++want) {
            const bool is_granted = (static_cast<int>(mode >> shift) & want) == want;
            ASSERT_EQ(may_access(who, kOwner, kGroup, mode, want), is_granted)
                << name << " mode " << mode << " want " << want;
        }
}

TEST(Cred, TheOwnersBitsDecideForTheOwnerAlone) {
    expect_shift(person(kOwner, 1), 6, "owner");
    expect_shift(person(kOwner, kGroup, {kGroup}), 6, "owner in the group");
}

TEST(Cred, TheGroupsBitsDecideForItsMembers) {
    expect_shift(person(101, kGroup), 3, "group");
    expect_shift(person(101, 1, {5, kGroup, 7}), 3, "supplementary group");
}

TEST(Cred, TheOthersBitsDecideForTheRest) {
    expect_shift(person(101, 201, {5, 7}), 0, "other");
}

TEST(Cred, ADeniedOwnerGetsNothingFromTheOthersBits) {
    EXPECT_FALSE(may_access(person(kOwner, kGroup), kOwner, kGroup, 0077, 4));
    EXPECT_FALSE(may_access(person(101, kGroup), kOwner, kGroup, 0707, 4));
}

TEST(Cred, RootMayReadWriteAndSearch) {
    EXPECT_TRUE(may_access(person(0, 0), kOwner, kGroup, 0, 4 | 2 | 1));
}

}  // namespace
}  // namespace refault::base
