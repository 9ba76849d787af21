// The time of day jumps back and forth by years, in the daemon and in its programs, while devices
// are pulled and fail: waits and limits go by the monotonic clock, so nothing hangs, gives up early
// or is told wrongly.
#include <cstdlib>
#include <fstream>

#include "tests/loss_support.h"
#include "tests/mapper_process.h"

namespace refault::tests {
namespace {

constexpr long kTenYears = 10L * 365 * 24 * 3600;

class JumpingClock {
  public:
    JumpingClock() {
        ::setenv("REFAULT_CLOCK", path().c_str(), 1);
        ::setenv("LD_PRELOAD", (cli::program_directory() + "/librefault-clock-jumps.so").c_str(),
                 1);
    }
    ~JumpingClock() {
        ::unsetenv("REFAULT_CLOCK");
        ::unsetenv("LD_PRELOAD");
    }
    void jump_to(long seconds) { std::ofstream(path()) << seconds; }

  private:
    std::string path() const { return directory_.path() + "/clock"; }
    TemporaryDirectory directory_;
};

TEST(ClockJump, NothingWaitsLongerOrShorterForIt) {
    NEEDS_PROOF();
#ifdef REFAULT_SANITIZED
    GTEST_SKIP() << "a sanitizer must be loaded first";
#endif
    JumpingClock clock;
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M"});
    make_file(pool, "/one", 1);
    make_file(pool, "/two", 2, /*rolls_back=*/true);
    Mapper one(pool, "/one", Mapper::Access::Write), two(pool, "/two", Mapper::Access::Write);
    ASSERT_EQ(one.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(two.store(0, 2, kFileBytes), "ok");
    const auto modified =
        pool.get("/v1/files/stat?path=/two").value("modified_ns", std::uint64_t{0});
    int round = 0;
    for (const long seconds : {kTenYears, -kTenYears, 0L}) {
        clock.jump_to(seconds);
        const auto device = place_of(pool, "/one", 0).device;
        pool.pull({device}, {{"timeout_ms", 30'000}});
        clock.jump_to(-seconds);
        pool.wait_for_phase(device, "safe");
        pool.post("/v1/devices", {{"spec", device + "=ram:64M"}});
        ASSERT_EQ(two.persist(0, kFileBytes), "ok");
        wait_for_resync(pool);
        poison(pool, place_of(pool, "/two", 8 * kPage * static_cast<unsigned>(++round)));
        EXPECT_EQ(one.load(0, kFileBytes), "ok 1");
        EXPECT_EQ(two.load(0, kFileBytes), "ok 2");
    }
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty());
    // It did jump: what was written meanwhile has such a time.
    clock.jump_to(-kTenYears);
    overwrite(pool, "/two", 0, 3);
    const auto then = pool.get("/v1/files/stat?path=/two").value("modified_ns", std::uint64_t{0});
    EXPECT_LT(then, modified);
    pool.expect_sound();
}

}  // namespace
}  // namespace refault::tests
