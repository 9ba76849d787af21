// Random steps in a world of files, programs and devices (loss_world.h): what the random loss test
// and the soak are made of. Each step is done to the pool and to the model, and what follows is
// compared. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "tests/loss_world.h"

namespace refault::tests {

class LossChaos {
  public:
    // With lasting devices the daemon dies, too.
    LossChaos(std::uint64_t seed, LossWorld::Devices kind);

    void step();
    // Most failures find a pool that has got over the one before.
    void settle();
    // One after another: everything is put right, and every page of every file compared.
    void finish();

    void kill_daemon();
    // How often each was done; harm is counted in faults, the rest in work.
    using Counts = std::map<std::string, std::uint64_t>;
    const Counts& work() const { return work_; }
    const Counts& faults() const { return faults_; }
    LossWorld& world() { return world_; }

  private:
    struct Step;
    static const Step kSteps[];

    std::size_t below(std::size_t limit) { return random_() % limit; }
    std::size_t some_file() { return below(world_.files().size()); }
    LossWorld::Client* some_client(bool must_write = false);
    std::pair<std::size_t, std::size_t> some_run(std::size_t pages);

    void make_file();
    void remove_file();
    void start_client();
    void store();
    void persist();
    void load();
    void resize();
    void set_replicas();
    void mend();
    void forgive();
    void stop_or_go_on();
    void kill_client();
    void cancel_if_leaving(const std::string& device);
    void pull_or_cancel();
    void yank();
    void bring_back();
    void poison();
    void trouble();
    void scrub();
    void talk_nonsense();
    void rogue();
    void look();
    void keep_devices();

    std::mt19937_64 random_;
    LossWorld world_;
    Counts work_;
    Counts faults_;
    unsigned value_ = 0;
    bool is_harmed_ = false;  // since the last look at everything
    unsigned steps_unseen_ = 0;
};

}  // namespace refault::tests
