// What the tests of losses share: files of a known size, where their bytes lie, and hands that do
// harm to devices.
#pragma once

#include <string>
#include <vector>

#include "tests/mapper_process.h"

namespace refault::tests {

inline constexpr std::uint64_t kPage = 4096;
inline constexpr std::uint64_t kFileBytes = 1u << 20;
inline const std::vector<std::string> kThree{"a=ram:64M", "b=ram:64M", "c=ram:64M"};

void make_file(Pool& pool, const std::string& path, unsigned replicas, bool rolls_back = false);

// Written through the daemon.
void put_bytes(Pool& pool, const std::string& path, const std::string& bytes,
               std::uint64_t offset = 0);

struct Place {
    std::string device;  // empty: nowhere
    std::uint64_t offset = 0;
};
// Where a byte of the file lies, by the reverse map.
Place place_of(Pool& pool, const std::string& path, std::uint64_t offset, unsigned replica = 0);

// The segment's file that has the place.
std::string segment_file(Pool& pool, const Place& place);

// A whole page, by the daemon.
void overwrite(Pool& pool, const std::string& path, std::uint64_t offset, char byte);

Json poison(Pool& pool, const Place& place, std::uint64_t length = kPage);
void wait_for_resync(Pool& pool);
// What an outside hand does to a device: every segment file is cut and removed.
void yank(Pool& pool, const std::string& device);
// Waits until the pool knows.
bool is_gone(Pool& pool, const std::string& device);

}  // namespace refault::tests
