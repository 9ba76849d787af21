// What tests share in which a daemon dies: four devices that outlive it, and the next daemon.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/loss_support.h"
#include "tests/shelf.h"

namespace refault::tests {

// Waits until this daemon has said that all programs of the one before are back.
inline bool are_clients_back(Pool& pool) {
    return eventually([&] {
        const auto list = pool.control().get("/v1/events/list");
        if (!list) return false;
        for (const auto& event : (*list)["events"])
            if (event["kind"] == "clients-back") return true;
        return false;
    });
}

class DaemonDeath : public ::testing::Test {
  protected:
    void SetUp() override {
        std::vector<std::string> devices;
        for (const char* name : {"a", "b", "c", "d"}) {
            open_.insert(open_.end(), {"--open", "dir:" + shelf_.make(name)});
            devices.push_back(shelf_.spec(name));
        }
        open_.push_back("--fault-points");
        pool_ = std::make_unique<Pool>(devices, std::vector<std::string>{"--fault-points"});
    }
    void start_again() {
        const auto started = pool_->daemon().start_again(open_);
        ASSERT_TRUE(started) << started.error().message();
    }
    void wait_until_back() { EXPECT_TRUE(are_clients_back(*pool_)); }
    // Of its writer.
    void wait_until_clean(const std::string& path) {
        EXPECT_TRUE(eventually([&] {
            const auto maps = pool_->get("/v1/maps");
            for (const auto& mapping : maps["mappings"])
                if (mapping["path"] == path && mapping["clean_bytes"] == kFileBytes) return true;
            return false;
        }));
    }
    // Away from the device; whether it may be said to be safe, other processes here decide.
    void move_away_from(const std::string& device) {
        pool_->pull({device});
        EXPECT_TRUE(eventually([&] {
            const auto phase = pool_->get("/v1/removals/" + device).value("phase", "");
            return phase == "unproven" || phase == "safe";
        }));
    }
    std::string fullest() {
        std::string name;
        std::uint64_t most = 0;
        const auto devices = pool_->get("/v1/devices");
        for (const auto& device : devices["devices"]) {
            const auto bytes = device.value("data_bytes", std::uint64_t{0});
            if (bytes >= most) name = device.value("name", "");
            most = std::max(most, bytes);
        }
        return name;
    }
    std::size_t mappings() { return pool_->get("/v1/maps")["mappings"].size(); }

    Shelf shelf_;
    std::vector<std::string> open_;
    std::unique_ptr<Pool> pool_;
};

}  // namespace refault::tests
