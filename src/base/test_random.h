// For tests: random numbers that can be replayed. REFAULT_SEED in the environment replays a random
// test.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <vector>

namespace refault::base::testing {

class Random {
  public:
    // Prints the seed, so that a failure can be had again.
    Random() : Random(choose_seed()) {}
    explicit Random(std::uint64_t seed) : engine_(seed) {}

    std::uint64_t next() { return engine_(); }
    std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }
    std::vector<std::uint8_t> bytes(std::size_t length) {
        std::vector<std::uint8_t> made(length);
        for (auto& byte : made) byte = static_cast<std::uint8_t>(engine_());
        return made;
    }

  private:
    static std::uint64_t choose_seed() {
        const char* replay = std::getenv("REFAULT_SEED");
        const std::uint64_t seed =
            replay != nullptr ? std::strtoull(replay, nullptr, 10) : std::random_device{}();
        std::cout << "REFAULT_SEED=" << seed << std::endl;
        return seed;
    }
    std::mt19937_64 engine_;
};

}  // namespace refault::base::testing
