// Cuts the power after each call of a recording, opens what is left, and counts. One thread.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tests/power_cut/recording.h"

namespace refault::power_cut {

// How many images are made of each point, beside those with none and with all of what is pending.
struct Thoroughness {
    std::size_t singles = 4;  // each alone missing, and each alone there; SIZE_MAX: every one
    std::size_t random = 4;
    std::uint64_t again_one_in = 40;  // so often the power goes again while the pool is opened
};

struct CutCounts {
    std::size_t points = 0;
    std::size_t images = 0;
    std::size_t images_again = 0;  // after a second cut
    std::size_t failures = 0;
    std::set<device::DurableWrite> rows;
};

class Cutter {
  public:
    Cutter(const Recording& recording, Thoroughness how, std::uint64_t seed)
        : recording_(recording), how_(how), random_(seed) {}
    CutCounts run();

  private:
    void cut(const Disk& disk, const Expectation& expected, const std::string& where);
    std::vector<Reached> choices(std::size_t pending);
    void look(const Image& image, const Expectation& expected, const std::string& where,
              bool may_cut_again);
    void cut_again(const Image& image, const Expectation& expected, const std::string& where);

    const Recording& recording_;
    const Thoroughness how_;
    store::testing::Random random_;
    CutCounts counts_;
    std::set<std::pair<std::uint64_t, const Expectation*>> seen_;
};

}  // namespace refault::power_cut
