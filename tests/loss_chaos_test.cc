// Memory that fails at random under programs that run, held against a model of what was promised
// (loss_model.h). REFAULT_SEED replays a run, REFAULT_LOSS_STEPS sets its length,
// REFAULT_LOSS_TRACE prints every step; tools/soak-loss.sh runs it for long.
#include <cstdlib>
#include <random>

#include "tests/loss_world.h"

namespace refault::tests {
namespace {

constexpr std::size_t kFilesMax = 6;
constexpr std::size_t kClientsMax = 7;
constexpr std::size_t kDevicesMax = 5;

class LossChaos {
  public:
    explicit LossChaos(std::uint64_t seed) : random_(seed), world_(3 + below(2)) {
        for (int i = 0; i < 3; ++i) {
            make_file();
            start_client();
        }
    }

    void step() {
        const auto kind = below(100);
        if (kind < 4) return make_file();
        if (kind < 12) return start_client();
        if (kind < 30) return store();
        if (kind < 42) return persist();
        if (kind < 54) return load();
        if (kind < 60) return resize();
        if (kind < 64) return world_.set_replicas(some_file(), 1 + static_cast<unsigned>(below(3)));
        if (kind < 70) return mend();
        if (kind < 74) return forgive();
        if (kind < 77) return stop_or_go_on();
        if (kind < 79) return kill();
        if (kind < 83) return pull_or_cancel();
        if (kind < 87) return yank();
        if (kind < 92) return poison();
        if (kind < 94) return trouble();
        if (kind < 98) return bring_back();
        look();
    }

    // Most failures find a pool that has got over the one before.
    void settle() {
        keep_devices();
        if (below(4) == 0) return;
        if (below(3) == 0) return world_.wait_for_yanks();
        world_.wait_until_quiet();
        world_.check_lost();
        world_.check_places();
        world_.check_clients();
    }

    void finish() {
        for (auto& client : world_.clients())
            if (client->is_stopped) world_.go_on(*client);
        for (const auto& device : world_.devices()) cancel_if_leaving(device);
        while (world_.in_service().size() < 4) world_.add_device();
        world_.wait_until_quiet();
        world_.check_lost();
        world_.check_places();
        world_.check_every_page();
        for (std::size_t i = 0; i < world_.files().size(); ++i)
            if (!world_.files()[i].pages.empty()) world_.start_client(i, false);
        world_.check_every_page();
        world_.check_clients();
        world_.check_lost();
        world_.pool().expect_sound();
    }

  private:
    std::size_t below(std::size_t limit) { return random_() % limit; }
    std::size_t some_file() { return below(world_.files().size()); }

    LossWorld::Client* some_client(bool must_write = false) {
        std::vector<LossWorld::Client*> able;
        for (auto& client : world_.clients())
            if (!client->is_stopped && (client->model.writes || !must_write))
                able.push_back(client.get());
        return able.empty() ? nullptr : able[below(able.size())];
    }

    void make_file() {
        if (world_.files().size() >= kFilesMax) return;
        // A few are larger than a segment.
        const auto pages = below(8) == 0 ? 520 + below(100) : 1 + below(40);
        constexpr unsigned kReplicas[] = {1, 2, 2, 2, 3};
        world_.make_file(kReplicas[below(5)], below(3) == 0, pages);
    }

    void start_client() {
        if (world_.clients().size() >= kClientsMax) return;
        const auto file = some_file();
        if (!world_.files()[file].pages.empty()) world_.start_client(file, below(3) != 0);
    }

    // A run of pages: mostly short.
    std::pair<std::size_t, std::size_t> some_run(std::size_t pages) {
        const auto first = below(pages);
        const auto most = below(5) == 0 ? pages - first : std::min<std::size_t>(4, pages - first);
        return {first, 1 + below(most)};
    }

    void store() {
        auto* client = some_client(/*must_write=*/true);
        if (client == nullptr) return;
        const auto [first, count] = some_run(client->model.pages);
        value_ = value_ % 250 + 1;
        for (auto page = first; page < first + count; ++page) world_.store(*client, page, value_);
    }

    void persist() {
        auto* client = some_client(/*must_write=*/true);
        if (client == nullptr) return;
        const auto pages = std::min(client->model.pages, world_.files()[client->file].pages.size());
        if (pages == 0) return;
        const auto [first, count] = some_run(pages);
        world_.persist(*client, first, count);
    }

    void load() {
        auto* client = some_client();
        if (client == nullptr) return;
        const auto [first, count] = some_run(client->model.pages);
        for (auto page = first; page < first + count; ++page) world_.load(*client, page);
    }

    void resize() {
        const auto file = some_file();
        const auto pages = world_.files()[file].pages.size();
        // A shrink waits for who is stopped.
        for (const auto& client : world_.clients())
            if (client->is_stopped && client->file == file && below(4) != 0) return;
        if (below(2) == 0 && pages > 0)
            world_.resize(file, below(8) == 0 ? 0 : below(pages) + 1);
        else if (pages < 700)
            world_.resize(file, pages + 1 + below(30));
    }

    // Punches, or overwrites through the daemon.
    void mend() {
        const auto file = some_file();
        const auto pages = world_.files()[file].pages.size();
        if (pages == 0) return;
        // Mostly as a whole, or all would be lost before long.
        const auto [first, count] =
            below(3) != 0 ? std::pair<std::size_t, std::size_t>(0, pages) : some_run(pages);
        if (below(2) == 0) return world_.punch(file, first, count);
        value_ = value_ % 250 + 1;
        world_.overwrite(file, first, count, value_);
    }

    void forgive() {
        auto* client = some_client(/*must_write=*/true);
        if (client == nullptr) return;
        if (below(2) == 0) return world_.remap(*client);
        const auto [first, count] = some_run(client->model.pages);
        world_.accept(*client, first, count);
        for (auto page = first; page < first + count; ++page) world_.load(*client, page);
    }

    void stop_or_go_on() {
        for (auto& client : world_.clients())
            if (client->is_stopped) return world_.go_on(*client);
        if (auto* client = some_client()) world_.stop(*client);
    }

    void kill() {
        if (world_.clients().size() > 2) world_.kill_client(below(world_.clients().size()));
    }

    void cancel_if_leaving(const std::string& device) {
        for (const auto& name : world_.in_service())
            if (name == device) return;
        world_.cancel(device);
    }

    void pull_or_cancel() {
        const auto all = world_.devices();
        const auto in_service = world_.in_service();
        if (all.size() > in_service.size() && below(2) == 0) return cancel_if_leaving(all.back());
        if (in_service.size() > 2) world_.pull(in_service[below(in_service.size())]);
    }

    void yank() {
        const auto all = world_.devices();
        if (world_.in_service().size() < 3) return;
        const auto& device = all[below(all.size())];
        if (world_.is_directory(device) && below(2) == 0) return world_.take_away(device);
        world_.yank(device);
        if (below(3) == 0) load();
    }

    void bring_back() {
        if (!world_.away().empty()) world_.bring_back(world_.away().begin()->first);
    }

    // One page, a run of pages, or a part of the device that many files share.
    void poison() {
        const auto all = world_.places();
        const auto file = some_file();
        if (all[file].empty()) return;
        const auto& spots = all[file][below(all[file].size())];
        if (spots.empty()) return;
        const auto& spot = spots[below(spots.size())];
        const auto pages = below(3) == 0 ? 1 + below(64) : 1;
        const auto length =
            std::min<std::uint64_t>(pages * LossWorld::kPage, (32u << 20) - spot.offset);
        world_.poison(spot.device, spot.offset, length);
    }

    // Things that come together badly: a failure while the pool deals with another, copies that are
    // made or moved, a file that gets shorter, a program that stops or dies.
    void trouble() {
        switch (below(7)) {
            case 0:
                yank();
                return yank();
            case 1:
                yank();
                return poison();
            case 2:
                pull_or_cancel();
                return yank();
            case 3:
                world_.set_replicas(some_file(), 3);
                return yank();
            case 4:
                yank();
                return resize();
            case 5:
                stop_or_go_on();
                yank();
                world_.wait_for_yanks();
                return stop_or_go_on();
            default:
                yank();
                return kill();
        }
    }

    void look() {
        world_.wait_until_quiet();
        world_.check_every_page();
        world_.pool().expect_sound();
    }

    void keep_devices() {
        const auto all = world_.devices();
        const auto is_short = world_.in_service().size() < 3;
        if (all.size() < kDevicesMax && (is_short || below(12) == 0)) world_.add_device();
    }

    std::mt19937_64 random_;
    LossWorld world_;
    unsigned value_ = 0;
};

TEST(LossChaos, EveryPromiseIsKept) {
    NEEDS_PROOF();
    const char* given = std::getenv("REFAULT_LOSS_STEPS");
    const int steps = given != nullptr ? std::atoi(given) : 80;
    LossChaos chaos(test_seed());
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
        chaos.step();
        chaos.settle();
    }
    if (!::testing::Test::HasFailure()) chaos.finish();
}

}  // namespace
}  // namespace refault::tests
