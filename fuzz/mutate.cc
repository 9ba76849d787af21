// Changes in the manner of libFuzzer: bits, bytes, numbers at their limits, parts left out, doubled
// and taken from another seed.
#include "fuzz/mutate.h"

#include <array>

namespace refault::fuzz {

namespace {

using base::testing::Random;

constexpr std::size_t kBytesMax = 8192;
constexpr std::array<std::uint64_t, 14> kLimits{
    0,    1,          2,          0x7f,       0x80,      0xff,       0xffff,
    4096, 0x7fffffff, 0x80000000, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX - 4095};

std::ptrdiff_t place(const Bytes& bytes, Random& random) {
    return static_cast<std::ptrdiff_t>(random.below(bytes.size() + 1));
}

// A part of some length, mostly short.
Bytes part_of(const Bytes& bytes, Random& random) {
    const auto begin = random.below(bytes.size() + 1);
    const auto most = std::min<std::uint64_t>(bytes.size() - begin, random.below(2) ? 16 : 256);
    const auto length = random.below(most + 1);
    const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(begin);
    return {from, from + static_cast<std::ptrdiff_t>(length)};
}

void overwrite(Bytes& bytes, std::size_t at, std::uint64_t value, std::size_t width) {
    for (std::size_t i = 0; i < width && at + i < bytes.size(); ++i)
        bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

void change(Bytes& bytes, const std::vector<Bytes>& seeds, Random& random) {
    const auto insert = [&](const Bytes& part) {
        bytes.insert(bytes.begin() + place(bytes, random), part.begin(), part.end());
    };
    const auto what = random.below(bytes.empty() ? 2 : 8);
    if (what == 0) return insert(random.bytes(1 + random.below(8)));
    if (what == 1) return insert(part_of(seeds[random.below(seeds.size())], random));
    const auto at = random.below(bytes.size());
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    switch (what) {
        case 2:
            *begin = static_cast<std::uint8_t>(*begin ^ (1u << random.below(8)));
            break;
        case 3:
            *begin = static_cast<std::uint8_t>(random.next());
            break;
        case 4:
            overwrite(bytes, at, kLimits[random.below(kLimits.size())], 1u << random.below(4));
            break;
        case 5:
            *begin = static_cast<std::uint8_t>(*begin + random.below(9) - 4);
            break;
        case 6:
            bytes.erase(begin, begin + std::min<std::ptrdiff_t>(
                                           bytes.end() - begin,
                                           1 + static_cast<std::ptrdiff_t>(random.below(16))));
            break;
        default:
            insert(part_of(bytes, random));
    }
}

}  // namespace

Bytes mutate(const std::vector<Bytes>& seeds, Random& random) {
    auto bytes = seeds[random.below(seeds.size())];
    for (auto left = 1 + random.below(8); left > 0; --left) change(bytes, seeds, random);
    if (bytes.size() > kBytesMax) bytes.resize(kBytesMax);
    return bytes;
}

}  // namespace refault::fuzz
