// Memory that fails at random under programs that run, held against a model of what was promised
// (loss_model.h). REFAULT_SEED replays a run, REFAULT_LOSS_STEPS sets its length,
// REFAULT_LOSS_TRACE prints every step; tools/soak-loss.sh runs it for long, tools/soak.sh
// all of it.
#include "tests/loss_chaos.h"

#include <cstdlib>

namespace refault::tests {
namespace {

TEST(LossChaos, EveryPromiseIsKept) {
    NEEDS_PROOF();
    const char* given = std::getenv("REFAULT_LOSS_STEPS");
    const int steps = given != nullptr ? std::atoi(given) : 80;
    LossChaos chaos(test_seed(), LossWorld::Devices::Mixed);
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
        chaos.step();
        chaos.settle();
    }
    if (!::testing::Test::HasFailure()) chaos.finish();
}

}  // namespace
}  // namespace refault::tests
