// Every fuzzing target by its seeds and by some thousand random changes of them, with the compiler
// and the sanitizers of the tests. tools/fuzz.sh looks for longer. A broken promise ends the
// program; REFAULT_SEED in the environment runs the same inputs again.
#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "fuzz/mutate.h"
#include "fuzz/target.h"

namespace refault::fuzz {

// What gtest shows of a parameter.
void PrintTo(const Target& target, std::ostream* out) {
    *out << target.name;
}

namespace {

class FuzzSmoke : public ::testing::TestWithParam<Target> {};

TEST_P(FuzzSmoke, WithstandsSeedsAndChangesOfThem) {
    const auto seeds = GetParam().seeds();
    ASSERT_FALSE(seeds.empty());
    for (const auto& seed : seeds) GetParam().run(seed);
    GetParam().run({});
    base::testing::Random random;
    for (std::size_t i = 0; i < GetParam().smoke_runs; ++i) GetParam().run(mutate(seeds, random));
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzSmoke, ::testing::ValuesIn(targets()),
                         [](const auto& target) { return std::string(target.param.name); });

}  // namespace

}  // namespace refault::fuzz
