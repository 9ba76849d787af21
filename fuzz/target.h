// What a fuzzer is: inputs to begin with, and a function that must withstand any bytes. Each
// fuzz/NAME_fuzz.cc registers one, and is linked twice: with driver.cc into the libFuzzer program
// NAME_fuzz, and with all others and smoke_test.cc into fuzz_smoke_test.
//
// Invariant of every target: the same input does the same, whatever ran before. What a run breaks
// is said by CHECK, which ends the program. One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/codec.h"

namespace refault::fuzz {

using base::Bytes;
using Input = std::span<const std::uint8_t>;

struct Target {
    const char* name;  // of the file, without _fuzz.cc
    std::vector<Bytes> (*seeds)();
    void (*run)(Input input);
    std::size_t smoke_runs;  // mutated inputs that fuzz_smoke_test runs: about half a second
};

// Those that are linked in, in no order.
std::vector<Target>& targets();

struct Registration {
    explicit Registration(const Target& target) { targets().push_back(target); }
};

inline bool same_bytes(Input a, Input b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace refault::fuzz
