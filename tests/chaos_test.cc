// Everything at once, at random: devices pulled, several together, cancelled at random moments, put
// back; clients stopped, let go on, killed and started. At the end every byte of every survivor is
// checked.
#include <signal.h>

#include <random>
#include <set>

#include "tests/support.h"

namespace refault::tests {
namespace {

class Chaos {
  public:
    explicit Chaos(std::uint64_t seed)
        : random_(seed), pool_({"a=ram:64M", "b=ram:64M", "c=ram:64M", "d=ram:64M"}) {
        start_group();
        start_group();
    }

    void step() {
        switch (random_() % 8) {
            case 0:
            case 1:
                pull_some();
                break;
            case 2:
                cancel_one();
                break;
            case 3:
                stop_one();
                break;
            case 4:
            case 5:
                continue_all();
                break;
            case 6:
                replace_group();
                break;
            default:
                let_run();
                break;
        }
        put_back_pulled();
    }

    void finish() {
        continue_all();
        for (const auto& device : kDevices)
            (void)pool_.control().post("/v1/devices/" + std::string(1, device) + "/cancel",
                                       Json::object());
        for (auto& group : groups_) group.writers->finish();
        pool_.expect_sound();
    }

  private:
    static constexpr std::string_view kDevices = "abcd";
    struct Group {
        int number = 0;
        std::unique_ptr<Writers> writers;
        std::set<std::size_t> stopped;
    };

    void start_group() {
        ++made_;
        groups_.push_back(
            {made_,
             std::make_unique<Writers>(pool_, 2, 12ull << 20, "/g" + std::to_string(made_) + "-"),
             {}});
    }

    // One writer is killed, its partner is checked to the last record, and a new pair takes their
    // place.
    void replace_group() {
        const auto i = random_() % groups_.size();
        const int number = groups_[i].number;
        continue_all();
        groups_[i].writers->kill_one(random_() % 2);
        groups_[i].writers->finish();
        groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(i));
        // Their files go: the pool holds two groups at a time.
        for (int k = 0; k < 2; ++k)
            pool_.post("/v1/files/remove",
                       {{"path", "/g" + std::to_string(number) + "-" + std::to_string(k)}});
        wait_for_room();
        start_group();
    }

    // The killed writer's file goes when the daemon has seen its end; what is leaving has no room.
    void wait_for_room() {
        EXPECT_TRUE(eventually([&] {
            put_back_pulled();
            return pool_.get("/v1/status").value("free_bytes", 0ull) >= 32ull << 20;
        }));
    }

    void pull_some() {
        std::vector<std::string> names{std::string(1, kDevices[random_() % 4])};
        if (random_() % 3 == 0) names.push_back(std::string(1, kDevices[random_() % 4]));
        if (names.size() == 2 && names[0] == names[1]) names.pop_back();
        Json body{{"devices", names}};
        if (random_() % 2 == 0) body["rate_bytes_per_s"] = (20 + random_() % 400) << 20;
        // Refused when it is leaving already or there is no room: that is an answer, too.
        (void)pool_.control().post("/v1/pull", body);
    }

    void cancel_one() {
        (void)pool_.control().post(
            "/v1/devices/" + std::string(1, kDevices[random_() % 4]) + "/cancel", Json::object());
    }

    void stop_one() {
        auto& group = groups_[random_() % groups_.size()];
        const auto i = random_() % 2;
        ::kill(group.writers->pid(i), SIGSTOP);
        group.stopped.insert(i);
    }

    void continue_all() {
        for (auto& group : groups_) {
            for (const auto i : group.stopped) ::kill(group.writers->pid(i), SIGCONT);
            group.stopped.clear();
        }
    }

    void let_run() {
        for (auto& group : groups_)
            if (group.stopped.empty()) group.writers->let_run(20 + random_() % 100);
    }

    void put_back_pulled() {
        const auto answer = pool_.get("/v1/removals");
        for (const auto& removal : answer["removals"]) {
            const auto name = removal.value("device", "");
            EXPECT_NE(removal.value("phase", ""), "failed") << removal.dump();
            if (removal.value("phase", "") == "safe" &&
                pool_.get("/v1/devices/" + name).value("state", "") == "removed")
                pool_.post("/v1/devices", {{"spec", name + "=ram:64M"}});
        }
    }

    std::mt19937_64 random_;
    Pool pool_;
    std::vector<Group> groups_;
    int made_ = 0;
};

TEST(Chaos, EveryByteSurvives) {
    NEEDS_PROOF();
    Chaos chaos(test_seed());
    for (int i = 0; i < 40 && !::testing::Test::HasFailure(); ++i) chaos.step();
    chaos.finish();
}

}  // namespace
}  // namespace refault::tests
