// What the tests of lost memory share: files with copies, where they lie, and hands that take
// memory away.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/mapper_process.h"

namespace refault::tests {

inline constexpr std::uint64_t kPage = 4096;
inline constexpr std::uint64_t kFileBytes = 1u << 20;
inline const std::vector<std::string> kThree{"a=ram:64M", "b=ram:64M", "c=ram:64M"};

// Of kFileBytes.
void make_file(Pool& pool, const std::string& path, unsigned replicas, bool rolls_back = false);

struct Place {
    std::string device;
    std::uint64_t offset = 0;
};
// Where a byte of the file lies, by the reverse map.
Place place_of(Pool& pool, const std::string& path, std::uint64_t offset, unsigned replica = 0);

// Returns the record of the failure.
Json poison(Pool& pool, const Place& place, std::uint64_t length = kPage);
// What an outside hand does to a device: every segment file is cut or removed.
void yank(Pool& pool, const std::string& device);
// Waits until the daemon has given it up.
bool is_gone(Pool& pool, const std::string& device);
void wait_for_resync(Pool& pool);
// A whole page, by the daemon.
void overwrite(Pool& pool, const std::string& path, std::uint64_t offset, char byte);

}  // namespace refault::tests
