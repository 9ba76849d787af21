// The daemon is killed in the middle of what it does for an operator, under writers that check
// every record.
#include <functional>
#include <random>
#include <thread>

#include "tests/daemon_death.h"
#include "tests/mapper_process.h"

namespace refault::tests {
namespace {

using Access = Mapper::Access;

// One thing that a daemon does for an operator, killed in the middle of it: what asks for it, and
// what must be true of it when the next daemon has finished or undone it.
struct UnderWay {
    const char* name;
    std::function<void()> (*request)(Pool& pool, int round);
    void (*check)(Pool& pool, int round);
};

// The daemon may be gone before it answers.
std::function<void()> posting(Pool& pool, const std::string& target, const Json& body) {
    return [&pool, target, body] { (void)pool.control().post(target, body); };
}

bool is_idle(Pool& pool) {
    return !pool.get("/v1/resync").value("is_running", true) &&
           !pool.get("/v1/scrub").value("is_running", true);
}

std::uint64_t size_of(Pool& pool, const std::string& path) {
    return pool.get("/v1/files/stat?path=" + path).value("size_bytes", std::uint64_t{1});
}

constexpr std::uint64_t kSmall = 1 << 20, kLarge = 9 << 20;

const UnderWay kUnderWay[] = {
    {"Resize",
     [](Pool& pool, int round) {
         return posting(pool, "/v1/files/resize",
                        {{"path", "/resized"}, {"size_bytes", round % 2 == 0 ? kLarge : kSmall}});
     },
     [](Pool& pool, int) {
         const auto size = size_of(pool, "/resized");
         EXPECT_TRUE(size == kSmall || size == kLarge) << size;
     }},
    {"Scrub", [](Pool& pool, int) { return posting(pool, "/v1/scrub", Json::object()); },
     [](Pool&, int) {}},
    {"Copies",
     [](Pool& pool, int round) {
         return posting(pool, "/v1/files/set", {{"path", "/writer0"}, {"replicas", 2 + round % 2}});
     },
     [](Pool& pool, int) { EXPECT_TRUE(eventually([&] { return is_idle(pool); })); }},
    {"Repair",
     [](Pool& pool, int) {
         // What a program has persisted: nothing of it may be lost.
         const auto place = place_of(pool, "/steady", 0);
         return posting(pool, "/v1/devices/" + place.device + "/fail",
                        {{"offset", place.offset}, {"length", kFileBytes}});
     },
     [](Pool& pool, int) {
         const auto lost = pool.get("/v1/lost");
         EXPECT_TRUE(lost["lost"].empty()) << lost;
     }},
};

class DaemonDeathDuring : public DaemonDeath, public ::testing::WithParamInterface<UnderWay> {};

TEST_P(DaemonDeathDuring, ItIsFinishedOrUndone) {
    NEEDS_PROOF();
    const auto seed = test_seed();
    std::mt19937_64 random(seed);
    make_file(*pool_, "/resized", 2);
    pool_->post("/v1/files/resize", {{"path", "/resized"}, {"size_bytes", kSmall}});
    make_file(*pool_, "/steady", 2);
    Mapper steady(*pool_, "/steady", Access::Write);
    ASSERT_EQ(steady.store(0, 7, kFileBytes), "ok");
    ASSERT_EQ(steady.persist(0, kFileBytes), "ok");
    Writers writers(*pool_, 2, 4ull << 20);
    pool_->post("/v1/files/set", {{"path", "/writer0"}, {"replicas", 2}});
    EXPECT_TRUE(eventually([&] { return is_idle(*pool_); }));
    for (int round = 0; round < 4; ++round) {
        std::thread operation(GetParam().request(*pool_, round));
        writers.let_run(random() % 40);
        pool_->daemon().kill();
        operation.join();
        start_again();
        wait_until_back();
        GetParam().check(*pool_, round);
        // Whoever stores is held back where a copy took over when the pool was opened: which
        // regions were clean only the daemon knew that has died.
        if (steady.load(0, kFileBytes).starts_with("sigbus ")) {
            EXPECT_EQ(steady.say("accept 0 " + std::to_string(kFileBytes)), "ok");
        }
        EXPECT_EQ(steady.load(0, kFileBytes), "ok 7");
        writers.let_run(30);
        pool_->expect_sound();
    }
    // Nothing of it is in the way of what comes next.
    GetParam().request(*pool_, 0)();
    EXPECT_TRUE(eventually([&] { return is_idle(*pool_); }));
    writers.finish();
    pool_->expect_sound();
}

INSTANTIATE_TEST_SUITE_P(Operations, DaemonDeathDuring, ::testing::ValuesIn(kUnderWay),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace refault::tests
