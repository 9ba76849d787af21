// Planned removal under running programs: nothing is lost, nothing is disturbed, the light tells
// the truth.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <random>
#include <thread>

#include "base/range.h"
#include "base/unique_fd.h"
#include "failure/test_pinned_pages.h"
#include "tests/support.h"

namespace refault::tests {
namespace {

constexpr const char* kSize = "64M";

std::string directory_of(Pool& pool, const std::string& device) {
    return pool.get("/v1/devices/" + device).value("directory", "");
}

TEST(Pull, WritersKeepEveryRecord) {
    Pool pool({std::string("a=ram:") + kSize, std::string("b=ram:") + kSize,
               std::string("c=ram:") + kSize});
    Writers writers(pool, 4, 24ull << 20);
    const auto directory = directory_of(pool, "b");
    ASSERT_FALSE(directory.empty());
    EXPECT_FALSE(maps_lines_of(writers.pid(0), directory).empty())
        << "the files should span the device";
    writers.let_run(2000);
    pool.pull({"b"});
    const bool is_root = ::geteuid() == 0;
    const auto status = pool.wait_for_phase("b", is_root ? "safe" : "unproven");
    EXPECT_GT(status.value("bytes_moved", 0u), 0u);
    EXPECT_EQ(status.value("bytes_done", 0u), status.value("bytes_total", 1u));
    for (std::size_t i = 0; i < 4; ++i)
        EXPECT_TRUE(maps_lines_of(writers.pid(i), directory).empty());
    EXPECT_EQ(pool.power("b") == "off", is_root);
    if (!is_root) {
        EXPECT_TRUE(status["proof"]["holders"].empty()) << status.dump();
        EXPECT_FALSE(status["proof"]["unreadable_pids"].empty()) << status.dump();
    }
    writers.let_run(2000);
    writers.finish();
    pool.expect_sound();
}

TEST(Pull, SeveralDevicesLeaveAtOnceAndNoneIsATarget) {
    NEEDS_PROOF();
    Pool pool({std::string("a=ram:") + kSize, std::string("b=ram:") + kSize,
               std::string("c=ram:") + kSize, std::string("d=ram:") + kSize});
    Writers writers(pool, 4, 16ull << 20);
    pool.pull({"b", "c"});
    pool.wait_for_phase("b", "safe");
    pool.wait_for_phase("c", "safe");
    writers.let_run(1000);
    writers.finish();
    pool.expect_sound();
}

TEST(Pull, ASecondPullTakesTheFirstOnesTargetsAway) {
    NEEDS_PROOF();
    Pool pool({std::string("a=ram:") + kSize, std::string("b=ram:") + kSize,
               std::string("c=ram:") + kSize, std::string("d=ram:") + kSize});
    Writers writers(pool, 4, 16ull << 20);
    pool.pull({"b"}, {{"rate_bytes_per_s", 40u << 20}});
    pool.pull({"c"});
    pool.wait_for_phase("c", "safe");
    pool.wait_for_phase("b", "safe");
    writers.finish();
    pool.expect_sound();
}

TEST(Pull, IsRefusedBeforeAnythingMovesWhenTheRestIsTooSmall) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    Writers writers(pool, 3, 24ull << 20);
    const auto before = pool.get("/v1/devices");
    auto answer = pool.control().post("/v1/pull", Json{{"devices", {"b"}}});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code(), base::Code::NoSpace);
    EXPECT_NE(answer.error().message().find("MiB"), std::string::npos) << answer.error().message();
    EXPECT_EQ(pool.get("/v1/devices"), before);
    EXPECT_EQ(pool.power("b"), "on");
    writers.let_run(1000);
    writers.finish();
}

TEST(Pull, DryRunChangesNothing) {
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M"});
    Writers writers(pool, 2, 16ull << 20);
    const auto before = pool.get("/v1/devices");
    const auto plan = pool.post("/v1/pull", {{"devices", {"b"}}, {"dry_run", true}});
    EXPECT_TRUE(plan.value("is_possible", false)) << plan.dump();
    EXPECT_GT(plan.value("bytes_to_move", 0u), 0u);
    EXPECT_EQ(plan["processes"].size(), 2u) << plan.dump();
    EXPECT_EQ(pool.get("/v1/devices"), before);
    writers.finish();
}

TEST(Pull, CancelledAtRandomMomentsDoesNoHarm) {
    NEEDS_PROOF();
    std::mt19937_64 random(test_seed());
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M"});
    Writers writers(pool, 4, 16ull << 20);
    for (int round = 0; round < 8; ++round) {
        const std::string device(1, static_cast<char>('a' + random() % 3));
        pool.pull({device}, {{"rate_bytes_per_s", 100u << 20}});
        const auto share = random() % 100;
        EXPECT_TRUE(eventually([&] {
            const auto status = pool.get("/v1/removals/" + device);
            return status.value("bytes_done", 0ull) * 100 >=
                   status.value("bytes_total", 0ull) * share;
        }));
        const auto cancelled =
            pool.control().post("/v1/devices/" + device + "/cancel", Json::object());
        if (!cancelled) {  // it was quicker
            pool.wait_for_phase(device, "safe");
            pool.post("/v1/devices", {{"spec", device + "=ram:64M"}});
            continue;
        }
        EXPECT_EQ(pool.get("/v1/removals/" + device).value("phase", ""), "cancelled");
        EXPECT_EQ(pool.power(device), "on");
        writers.let_run(200);
    }
    writers.finish();
    pool.expect_sound();
}

TEST(Pull, ATimeLimitPutsTheDeviceBackInServiceAlsoWhileItIsPaced) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    Writers writers(pool, 1, 16ull << 20);
    pool.pull({"a"}, {{"rate_bytes_per_s", 1}, {"timeout_ms", 300}});
    const auto status = pool.wait_for_phase("a", "cancelled");
    EXPECT_NE(status.value("reason", "").find("not done in time"), std::string::npos)
        << status.dump();
    EXPECT_LT(status.value("bytes_done", 0ull), status.value("bytes_total", 0ull));
    EXPECT_EQ(pool.power("a"), "on");
    EXPECT_EQ(pool.get("/v1/devices/a").value("state", ""), "in-service");
    writers.let_run(200);
    writers.finish();
    pool.expect_sound();
}

// No faster than asked, but for the first batch of 8 MiB. Slower is for the machine to say.
TEST(Pull, TheRateIsALimit) {
    constexpr std::uint64_t kRate = 40ull << 20;
    Pool pool({"a=ram:64M", "b=ram:64M"});
    MappedFile file(pool, "/paced", 40ull << 20);
    pool.pull({"a"}, {{"rate_bytes_per_s", kRate}});
    EXPECT_TRUE(eventually([&] {
        const auto status = pool.get("/v1/removals/a");
        return status.value("bytes_done", 0ull) == status.value("bytes_total", 1ull);
    }));
    const auto status = pool.get("/v1/removals/a");
    const auto bytes = status.value("bytes_moved", 0.0);
    ASSERT_GT(bytes, 12 << 20) << status.dump();
    EXPECT_GE(status.value("moving_seconds", 0.0),
              (bytes - (8 << 20)) / static_cast<double>(kRate) * 0.95)
        << status.dump();
}

TEST(Pull, ProgressNeverGoesBack) {
    NEEDS_PROOF();
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M"});
    Writers writers(pool, 4, 16ull << 20);
    pool.pull({"a"}, {{"rate_bytes_per_s", 60u << 20}});
    std::uint64_t seen = 0, total = 0;
    EXPECT_TRUE(eventually([&] {
        const auto status = pool.get("/v1/removals/a");
        const auto done = status.value("bytes_done", 0ull);
        EXPECT_GE(done, seen);
        if (total == 0) total = status.value("bytes_total", 0ull);
        EXPECT_EQ(status.value("bytes_total", 0ull), total);
        EXPECT_LE(done, total);
        seen = done;
        return status.value("phase", "") == "safe" || ::testing::Test::HasFailure();
    }));
    writers.finish();
}

TEST(Pull, AStoppedClientDoesNotBlockItAndFindsItsDataLater) {
    NEEDS_PROOF();
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M"});
    Writers writers(pool, 3, 16ull << 20);
    writers.let_run(500);
    writers.stop_one(1);
    pool.pull({"b"});
    // All has moved, but the kernel still shows the stopped process's mappings: amber, and the
    // holder is named.
    const auto status = pool.wait_for_phase("b", "unproven");
    EXPECT_EQ(status.value("bytes_done", 0ull), status.value("bytes_total", 1ull));
    ASSERT_FALSE(status["proof"]["holders"].empty()) << status.dump();
    EXPECT_EQ(status["proof"]["holders"][0].value("pid", 0), writers.pid(1));
    EXPECT_NE(pool.power("b"), "off");
    writers.let_run(0);
    ::kill(writers.pid(1), SIGCONT);
    pool.wait_for_phase("b", "safe");
    EXPECT_EQ(pool.power("b"), "off");
    writers.let_run(500);
    writers.finish();
    pool.expect_sound();
}

TEST(Pull, AKilledClientDoesNotMatter) {
    NEEDS_PROOF();
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M"});
    Writers writers(pool, 4, 16ull << 20);
    pool.pull({"b"}, {{"rate_bytes_per_s", 200u << 20}});
    writers.kill_one(2);
    pool.wait_for_phase("b", "safe");
    writers.finish();
    pool.expect_sound();
}

// Forks all the time; the children neither call exec nor end before this does.
class Forks {
  public:
    Forks() : thread_([this] { run(); }) {}
    ~Forks() {
        stop();
        for (const pid_t pid : pids_) {
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
        }
    }
    void stop() {
        must_stop_ = true;
        if (thread_.joinable()) thread_.join();
    }
    std::size_t count() const { return count_; }

  private:
    void run() {
        while (!must_stop_ && pids_.size() < 2000) {
            const pid_t pid = ::fork();
            if (pid == 0)
                for (;;) ::pause();
            if (pid > 0) pids_.push_back(pid);
            count_ = pids_.size();
        }
    }
    std::atomic<bool> must_stop_ = false;
    std::atomic<std::size_t> count_ = 0;
    std::vector<pid_t> pids_;
    std::thread thread_;
};

TEST(Pull, ChildrenThatNeverCallExecHoldNothing) {
    NEEDS_PROOF();
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M"});
    MappedFile file(pool, "/forking", 40ull << 20);
    ASSERT_NE(file.bytes(), nullptr);
    for (const char* device : {"a", "b"}) {
        Forks forks;
        EXPECT_TRUE(eventually([&] { return forks.count() > 20; }));
        pool.pull({device}, {{"rate_bytes_per_s", 200u << 20}});
        EXPECT_TRUE(eventually([&] {
            const auto phase = pool.get(std::string("/v1/removals/") + device).value("phase", "");
            return phase == "proving" || phase == "unproven" || phase == "safe";
        }));
        forks.stop();
        pool.wait_for_phase(device, "safe");
        pool.post("/v1/devices", {{"spec", std::string(device) + "=ram:64M"}});
    }
}

TEST(Pull, PagesThatTheKernelHoldsKeepTheLightAmber) {
    NEEDS_PROOF();
    Pool pool({"a=ram:64M", "b=ram:64M"});
    MappedFile file(pool, "/pinned", 8ull << 20);
    ASSERT_NE(file.bytes(), nullptr);
    {
        const failure::testing::PinnedPages pages(const_cast<char*>(file.bytes()), 8ull << 20);
        if (!pages.is_pinned()) GTEST_SKIP() << "io_uring is not allowed here";
        pool.pull({"a"});
        const auto status = pool.wait_for_phase("a", "unproven");
        EXPECT_GT(status["proof"].value("pinned_pages", 0), 0) << status.dump();
        EXPECT_TRUE(status["proof"]["holders"].empty()) << status.dump();
        EXPECT_NE(pool.power("a"), "off");
        // Who knows that they are of no account may say so.
        pool.post("/v1/devices/a/cancel", Json::object());
        pool.post("/v1/devices", {{"spec", "c=ram:64M"}});
        pool.pull({"a"}, {{"accept_pinned", true}});
        pool.wait_for_phase("a", "safe");
        pool.pull({"b"});
        pool.wait_for_phase("b", "unproven");
    }
    pool.wait_for_phase("b", "safe");
}

// One page of the mapping has been replaced by something that takes no userfaultfd; the stores to
// all others must be stopped and kept as ever.
TEST(Pull, AForeignPageInAMappingCostsItsNeighboursNothing) {
    constexpr std::uint64_t kPages = 1024;
    Pool pool({"a=ram:64M", "b=ram:64M"});
    MappedFile file(pool, "/hole", kPages * base::kPageBytes);
    auto* const bytes = file.bytes();
    ASSERT_NE(bytes, nullptr);
    const std::uint64_t foreign = kPages / 2;
    const base::UniqueFd program(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    ASSERT_NE(::mmap(const_cast<char*>(bytes) + foreign * base::kPageBytes, base::kPageBytes,
                     PROT_READ, MAP_PRIVATE | MAP_FIXED, program.get(), 0),
              MAP_FAILED);
    const auto word = [&](std::uint64_t page) -> volatile std::uint64_t& {
        return *reinterpret_cast<volatile std::uint64_t*>(bytes + page * base::kPageBytes);
    };
    std::atomic<bool> must_stop = false;
    std::atomic<std::uint64_t> rounds = 0, lost = 0;
    std::thread writer([&] {
        for (std::uint64_t value = 0; !must_stop; ++value, ++rounds)
            for (std::uint64_t page = 0; page < kPages; ++page) {
                if (page == foreign) continue;
                lost += word(page) != value ? 1 : 0;
                word(page) = value + 1;
            }
    });
    for (const std::string device : {"a", "b", "a", "b", "a", "b"}) {
        pool.pull({device});
        EXPECT_TRUE(eventually([&] {
            const auto status = pool.get("/v1/removals/" + device);
            return status.value("bytes_done", 0ull) == status.value("bytes_total", 1ull);
        }));
        const auto seen = rounds.load();
        EXPECT_TRUE(eventually([&] { return rounds > seen + 1; }));
        if (::geteuid() == 0) {
            pool.wait_for_phase(device, "safe");
            pool.post("/v1/devices", {{"spec", device + "=ram:64M"}});
        } else {
            pool.post("/v1/devices/" + device + "/cancel", Json::object());
        }
    }
    must_stop = true;
    writer.join();
    EXPECT_EQ(lost, 0u);
}

TEST(Pull, TheDeviceCanComeBackAsANewOne) {
    NEEDS_PROOF();
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M"});
    Writers writers(pool, 2, 16ull << 20);
    for (int round = 0; round < 3; ++round) {
        pool.pull({"b"});
        pool.wait_for_phase("b", "safe");
        pool.post("/v1/devices", {{"spec", "b=ram:64M"}});
        EXPECT_EQ(pool.power("b"), "on");
    }
    writers.finish();
    pool.expect_sound();
}

}  // namespace
}  // namespace refault::tests
