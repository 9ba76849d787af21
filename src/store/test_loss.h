// What store tests share that lose devices, without programs, and give them back.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "store/test_pool.h"

namespace refault::store::testing {

inline constexpr Shape kShape{64 * 1024, 32};

// What a surprise removal does, without programs.
inline void lose_device(TestPool& pool, DeviceId id) {
    pool->set_failed(id);
    ASSERT_TRUE(pool->evacuate_metadata(id).ok());
    std::vector<Move> dropped;
    const auto capacity = (*pool->device(id))->capacity_bytes();
    for (const auto& located : pool->locate(id, DeviceRange(0, capacity))) {
        if (located.is_metadata) continue;
        const Extent extent{located.inode,
                            located.file_range.begin(),
                            id,
                            located.device_range.begin(),
                            located.file_range.length(),
                            located.replica};
        ASSERT_TRUE(pool->drop_copies(std::span(&extent, 1), FailureKind::SurpriseRemoval).ok());
        dropped.push_back({extent, {}, 0, {}, false});
    }
    ASSERT_TRUE(pool->release_moved(dropped).ok());
    const auto removed = pool->remove_device(id);
    ASSERT_TRUE(removed.ok()) << removed.error().message();
}

inline device::DeviceSpec spec_of(const TestPool& pool, const std::string& name) {
    device::DeviceSpec spec;
    spec.kind = device::DeviceKind::Dir;
    spec.path = pool.directory() / name;
    return spec;
}

// The device is there again.
inline Result<Rejoined> rejoin(TestPool& pool, const std::string& name) {
    auto opened = device::Device::open(spec_of(pool, name));
    if (!opened) return opened.error();
    return pool->rejoin_device(DevicePtr(std::move(*opened)));
}

}  // namespace refault::store::testing
