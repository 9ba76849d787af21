// The steps and how often each comes.
#include "tests/loss_chaos.h"

#include <algorithm>

#include "sys/socket.h"

namespace refault::tests {

namespace {

constexpr std::size_t kFilesMax = 6;
constexpr std::size_t kClientsMax = 7;
constexpr std::size_t kDevicesMax = 5;
// Plain work needs no look at the pool's books after every step.
constexpr unsigned kStepsUnseenMax = 20;

}  // namespace

struct LossChaos::Step {
    unsigned weight;
    const char* name;
    void (LossChaos::*run)();
    bool is_fault;
};

const LossChaos::Step LossChaos::kSteps[] = {
    {40, "create", &LossChaos::make_file, false},
    {15, "remove", &LossChaos::remove_file, false},
    {80, "connect and map", &LossChaos::start_client, false},
    {180, "store", &LossChaos::store, false},
    {120, "persist", &LossChaos::persist, false},
    {120, "load", &LossChaos::load, false},
    {60, "resize", &LossChaos::resize, false},
    {40, "set copies", &LossChaos::set_replicas, false},
    {60, "punch or overwrite", &LossChaos::mend, false},
    {40, "accept or remap", &LossChaos::forgive, false},
    {10, "scrub", &LossChaos::scrub, false},
    {10, "compare everything", &LossChaos::look, false},
    {30, "stop or continue", &LossChaos::stop_or_go_on, true},
    {20, "kill -9 of a program", &LossChaos::kill_client, true},
    {40, "pull or cancel", &LossChaos::pull_or_cancel, true},
    {40, "yank", &LossChaos::yank, true},
    {50, "poison", &LossChaos::poison, true},
    {20, "several at once", &LossChaos::trouble, true},
    {40, "device comes back", &LossChaos::bring_back, true},
    {10, "malformed messages", &LossChaos::talk_nonsense, true},
    {10, "rogue program", &LossChaos::rogue, true},
};

LossChaos::LossChaos(std::uint64_t seed, LossWorld::Devices kind)
    : random_(seed), world_(3 + below(2), kind) {
    for (int i = 0; i < 3; ++i) {
        make_file();
        start_client();
    }
}

void LossChaos::step() {
    unsigned all = 0;
    for (const auto& step : kSteps) all += step.weight;
    auto chosen = below(all);
    for (const auto& step : kSteps) {
        if (chosen >= step.weight) {
            chosen -= step.weight;
            continue;
        }
        ++(step.is_fault ? faults_ : work_)[step.name];
        is_harmed_ = is_harmed_ || step.is_fault;
        return (this->*step.run)();
    }
}

void LossChaos::settle() {
    if (!is_harmed_ && ++steps_unseen_ < kStepsUnseenMax) return;
    keep_devices();
    if (below(4) == 0) return;
    if (below(3) == 0) return world_.wait_for_yanks();
    world_.wait_until_quiet();
    world_.check_lost();
    world_.check_places();
    world_.check_clients();
    is_harmed_ = false;
    steps_unseen_ = 0;
}

void LossChaos::finish() {
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

void LossChaos::kill_daemon() {
    ++faults_["kill -9 of the daemon"];
    world_.kill_daemon();
    is_harmed_ = true;
}

LossWorld::Client* LossChaos::some_client(bool must_write) {
    std::vector<LossWorld::Client*> able;
    for (auto& client : world_.clients())
        if (!client->is_stopped && (client->model.writes || !must_write))
            able.push_back(client.get());
    return able.empty() ? nullptr : able[below(able.size())];
}

void LossChaos::make_file() {
    if (world_.files().size() >= kFilesMax) return;
    // A few are larger than a segment.
    const auto pages = below(8) == 0 ? 520 + below(100) : 1 + below(40);
    constexpr unsigned kReplicas[] = {1, 2, 2, 2, 3};
    world_.make_file(kReplicas[below(5)], below(3) == 0, pages);
}

void LossChaos::remove_file() {
    if (world_.files().size() > 2) world_.remove_file(some_file());
}

void LossChaos::start_client() {
    if (world_.clients().size() >= kClientsMax) return;
    const auto file = some_file();
    if (!world_.files()[file].pages.empty()) world_.start_client(file, below(3) != 0);
}

// A run of pages: mostly short.
std::pair<std::size_t, std::size_t> LossChaos::some_run(std::size_t pages) {
    const auto first = below(pages);
    const auto most = below(5) == 0 ? pages - first : std::min<std::size_t>(4, pages - first);
    return {first, 1 + below(most)};
}

void LossChaos::store() {
    auto* client = some_client(/*must_write=*/true);
    if (client == nullptr) return;
    const auto [first, count] = some_run(client->model.pages);
    value_ = value_ % 250 + 1;
    for (auto page = first; page < first + count; ++page) world_.store(*client, page, value_);
}

void LossChaos::persist() {
    auto* client = some_client(/*must_write=*/true);
    if (client == nullptr) return;
    const auto pages = std::min(client->model.pages, world_.files()[client->file].pages.size());
    if (pages == 0) return;
    const auto [first, count] = some_run(pages);
    world_.persist(*client, first, count);
}

void LossChaos::load() {
    auto* client = some_client();
    if (client == nullptr) return;
    const auto [first, count] = some_run(client->model.pages);
    for (auto page = first; page < first + count; ++page) world_.load(*client, page);
}

void LossChaos::resize() {
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

void LossChaos::set_replicas() {
    world_.set_replicas(some_file(), 1 + static_cast<unsigned>(below(3)));
}

// Punches, or overwrites through the daemon.
void LossChaos::mend() {
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

void LossChaos::forgive() {
    auto* client = some_client(/*must_write=*/true);
    if (client == nullptr) return;
    if (below(2) == 0) return world_.remap(*client);
    const auto [first, count] = some_run(client->model.pages);
    world_.accept(*client, first, count);
    for (auto page = first; page < first + count; ++page) world_.load(*client, page);
}

void LossChaos::stop_or_go_on() {
    for (auto& client : world_.clients())
        if (client->is_stopped) return world_.go_on(*client);
    if (auto* client = some_client()) world_.stop(*client);
}

void LossChaos::kill_client() {
    if (world_.clients().size() > 2) world_.kill_client(below(world_.clients().size()));
}

void LossChaos::cancel_if_leaving(const std::string& device) {
    for (const auto& name : world_.in_service())
        if (name == device) return;
    world_.cancel(device);
}

void LossChaos::pull_or_cancel() {
    const auto all = world_.devices();
    const auto in_service = world_.in_service();
    if (all.size() > in_service.size() && below(2) == 0) return cancel_if_leaving(all.back());
    if (in_service.size() > 2) world_.pull(in_service[below(in_service.size())]);
}

void LossChaos::yank() {
    const auto all = world_.devices();
    if (world_.in_service().size() < 3) return;
    const auto& device = all[below(all.size())];
    if (world_.is_directory(device) && below(2) == 0) return world_.take_away(device);
    world_.yank(device);
    if (below(3) == 0) load();
}

void LossChaos::bring_back() {
    if (!world_.away().empty()) world_.bring_back(world_.away().begin()->first);
}

// One page, a run of pages, or a part of the device that many files share.
void LossChaos::poison() {
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
void LossChaos::trouble() {
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
            return kill_client();
    }
}

// It runs beside the steps that follow.
void LossChaos::scrub() {
    world_.note("scrub");
    (void)world_.pool().control().post("/v1/scrub", Json::object());
}

// Bytes that mean nothing, at the door of programs: refused, and nobody else notices.
void LossChaos::talk_nonsense() {
    world_.note("malformed messages");
    for (int i = 0; i < 4; ++i) {
        auto channel = sys::connect_seqpacket(world_.pool().daemon().session_socket());
        if (!channel) return world_.expect(channel.error().message(), "a connection");
        for (int k = 0; k < 4; ++k) {
            std::vector<std::uint8_t> bytes(1 + below(300));
            for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random_());
            // It has hung up at the first.
            if (!sys::send_message(channel->get(), bytes)) break;
        }
    }
}

// A program that claims that memory is bad which is not, and ends without a word.
void LossChaos::rogue() {
    const auto index = some_file();
    const auto& file = world_.files()[index];
    if (file.pages.empty()) return;
    world_.wait_for_yanks();
    // It waits until it has a descriptor for every page.
    for (const auto& page : file.pages)
        if (page.loss != Loss::None) return;
    world_.note("a rogue on " + file.path);
    Talker rogue({"refault-rogue", world_.pool().daemon().session_socket(), file.path,
                  std::to_string(file.pages.size() * LossWorld::kPage)});
    if (rogue.greeting().starts_with("holding ")) (void)rogue.say("p");
    // It is told of losses as any other.
    for (auto& page : world_.files()[index].pages) page.is_told_unsure = true;
}

void LossChaos::look() {
    world_.wait_until_quiet();
    world_.check_every_page();
    world_.pool().expect_sound();
}

void LossChaos::keep_devices() {
    const auto all = world_.devices();
    const auto is_short = world_.in_service().size() < 3;
    if (all.size() < kDevicesMax && (is_short || below(12) == 0)) world_.add_device();
}

}  // namespace refault::tests
