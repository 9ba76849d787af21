// The soak: everything that can happen to a pool, at random, for a chosen number of steps or
// seconds, against the models; at the end a report. A short one is a test like any other;
// tools/soak.sh runs long ones. REFAULT_SEED replays the choice of steps, REFAULT_SOAK_STEPS and
// REFAULT_SOAK_SECONDS end it (whichever comes first), REFAULT_SOAK_LIFE is how many steps a daemon
// lives, REFAULT_SOAK_REPORT is where the report goes as JSON.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>

#include "tests/loss_chaos.h"
#include "tests/mount_chaos.h"
#include "tests/soak_meter.h"

namespace refault::tests {
namespace {

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
    const char* given = std::getenv(name);
    return given != nullptr && *given != 0 ? std::strtoull(given, nullptr, 10) : otherwise;
}

class Soak {
  public:
    explicit Soak(std::uint64_t seed)
        : seed_(seed), random_(seed), losses_(seed, LossWorld::Devices::Lasting) {
        if (::access("/dev/fuse", R_OK | W_OK) == 0) mount_.emplace(seed, "");
    }

    void run() {
        const auto steps = number_from("REFAULT_SOAK_STEPS", 250);
        const std::chrono::seconds limit(number_from("REFAULT_SOAK_SECONDS", 0));
        const auto life = number_from("REFAULT_SOAK_LIFE", std::max<std::uint64_t>(steps / 3, 100));
        while (steps_ < steps && !::testing::Test::HasFailure()) {
            if (limit.count() > 0 && passed() >= limit) break;
            step();
            if (++steps_ % life == 0 && !::testing::Test::HasFailure()) losses_.kill_daemon();
            if (steps_ % kSampleSteps == 0) sample();
            if (steps_ % kLineSteps == 0)
                std::cout << steps_ << " steps in " << passed().count() << " s, memory "
                          << loss_meter_.latest_mib() << " and " << mount_meter_.latest_mib()
                          << " MiB" << std::endl;
        }
        // What a failure leaves is for whoever looks at it.
        if (::testing::Test::HasFailure()) return;
        losses_.finish();
        if (mount_) mount_->finish();
        for (const auto* meter : {&loss_meter_, &mount_meter_})
            if (const auto finding = meter->finding(); !finding.empty()) ADD_FAILURE() << finding;
    }

    void report() const {
        const auto violations = ::testing::Test::HasFailure() ? 1 : 0;
        Json json = {{"seed", seed_},
                     {"steps", steps_},
                     {"seconds", passed().count()},
                     {"violations", violations},
                     {"mount", mount_.has_value()},
                     {"work", losses_.work()},
                     {"faults", losses_.faults()},
                     {"mount_steps", mount_steps_},
                     {"daemons", {{"losses", loss_meter_.json()}, {"mount", mount_meter_.json()}}}};
        if (const char* path = std::getenv("REFAULT_SOAK_REPORT"); path != nullptr && *path != 0)
            std::ofstream(path) << json.dump(1) << '\n';
        std::cout << "\nsoak: seed " << seed_ << ", " << steps_ << " steps in " << passed().count()
                  << " s, " << (violations == 0 ? "no violation" : "a violation: see above")
                  << '\n';
        print("work", losses_.work());
        print("faults", losses_.faults());
        std::cout << "  on the mount   " << mount_steps_ << " steps"
                  << (mount_ ? "" : " (left out: no /dev/fuse)") << '\n'
                  << loss_meter_.text() << mount_meter_.text() << std::flush;
    }

  private:
    static constexpr std::uint64_t kSampleSteps = 20;
    static constexpr std::uint64_t kLineSteps = 1000;

    void step() {
        if (mount_ && random_() % 4 == 0) {
            ++mount_steps_;
            return mount_->step();
        }
        losses_.step();
        losses_.settle();
    }

    void sample() {
        loss_meter_.sample(losses_.world().pool().daemon().pid(), steps_);
        if (mount_) mount_meter_.sample(mount_->pool().daemon().pid(), steps_);
    }

    std::chrono::seconds passed() const {
        return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() -
                                                                begin_);
    }

    static void print(const char* title, const LossChaos::Counts& counts) {
        std::uint64_t all = 0;
        for (const auto& [name, count] : counts) all += count;
        std::cout << "  " << title << " " << all << ":";
        const char* between = " ";
        for (const auto& [name, count] : counts) {
            std::cout << between << name << " " << count;
            between = ", ";
        }
        std::cout << '\n';
    }

    const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
    const std::uint64_t seed_;
    std::mt19937_64 random_;
    LossChaos losses_;
    std::optional<MountChaos> mount_;
    std::uint64_t steps_ = 0;
    std::uint64_t mount_steps_ = 0;
    SoakMeter loss_meter_{"losses"};
    SoakMeter mount_meter_{"mount"};
};

TEST(Soak, EveryPromiseIsKeptAndNothingGrows) {
    NEEDS_PROOF();
    Soak soak(test_seed());
    try {
        soak.run();
    } catch (const std::exception& error) {
        ADD_FAILURE() << error.what();
    }
    soak.report();
}

}  // namespace
}  // namespace refault::tests
