// The random test of the mount (mount_chaos.h). REFAULT_SEED replays a run, REFAULT_MOUNT_STEPS
// sets its length.
#include "tests/mount_chaos.h"

#include <cstdlib>

namespace refault::tests {
namespace {

class MountRandom : public ::testing::TestWithParam<const char*> {};

TEST_P(MountRandom, LosesNothingThatHasASecondCopy) {
    NEEDS_FUSE();
    const auto seed = test_seed();
    const char* length = std::getenv("REFAULT_MOUNT_STEPS");
    const int steps = length != nullptr ? std::atoi(length) : 400;
    MountChaos chaos(seed, GetParam());
    for (int i = 0; i < steps; ++i) {
        chaos.step();
        if (HasFatalFailure() || HasNonfatalFailure()) FAIL() << "in step " << i;
    }
    chaos.finish();
}

INSTANTIATE_TEST_SUITE_P(Mount, MountRandom, ::testing::Values("", "writeback"));

}  // namespace
}  // namespace refault::tests
