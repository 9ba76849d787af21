// What a probe is told: whether the pool can be used (ready), and what is not as it should be.
// The facts are gathered by one function and judged by another, which tests call with pools made
// up. Stateless; any thread.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "daemon/pool.h"

namespace refault::daemon {

struct HealthFacts {
    enum class DeviceState {
        InService,
        Leaving,  // by request
        Damaged,  // it is there, but files of it are gone: it gets nothing new
        Failing,  // its memory is not touched any more
        Lost,     // gone without being asked
    };
    struct Device {
        std::string name;
        DeviceState state = DeviceState::InService;
    };
    bool has_pool = true;
    bool is_opening = false;  // then has_pool is false
    bool is_metadata_lost = false;
    std::uint64_t metadata_copies = 0;  // that can be written
    std::vector<Device> devices;
    std::uint64_t lost_bytes = 0;
    std::uint64_t lost_files = 0;
    std::uint64_t unplaced_copy_bytes = 0;
    std::uint64_t retired_bytes = 0;
    std::string absent;  // who has not come back from an earlier daemon; empty: nobody is missing
};

struct HealthReason {
    std::string code;     // "device-lost"; closed set, see docs/control-api.md
    std::string device;   // empty when it is not about one
    std::string message;  // what is wrong and what to do
};

struct Health {
    // A pool is open and takes changes. What is not ready is not healthy either.
    bool is_ready = true;
    std::vector<HealthReason> reasons;
    bool is_ok() const { return is_ready && reasons.empty(); }
    // "ok", "degraded" (it serves, but somebody has to look), "not-ready".
    const char* status() const { return !is_ready ? "not-ready" : is_ok() ? "ok" : "degraded"; }
};

HealthFacts health_facts(Pool& pool);
Health judge(const HealthFacts& facts);
nlohmann::json to_json(const Health& health);

}  // namespace refault::daemon
