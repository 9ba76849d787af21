// Inputs for the smoke test, made of seeds by random changes; the same random numbers make the same
// inputs. Stateless.
#pragma once

#include "base/test_random.h"
#include "fuzz/target.h"

namespace refault::fuzz {

// One of the seeds with up to eight changes. Precondition: there are seeds.
Bytes mutate(const std::vector<Bytes>& seeds, base::testing::Random& random);

}  // namespace refault::fuzz
