// mapped: what a mapped pool file costs over a plain mmap of a file on the same kind of tmpfs; with
// one copy, and with two, where the daemon tracks which regions were stored into since they were
// equal.
#include <chrono>
#include <optional>
#include <thread>

#include "base/units.h"
#include "bench/harness.h"
#include "bench/plain_file.h"
#include "bench/pool_file.h"
#include "cli/control_client.h"
#include "cli/local_daemon.h"

namespace refault::bench {

namespace {

constexpr std::uint64_t kBytes = 512ull << 20;
constexpr std::uint64_t kWords = kBytes / 8;
constexpr std::uint64_t kRandomOperations = 4'000'000;
constexpr int kTurns = 4;
constexpr double kWanted = 0.97;

volatile std::uint64_t g_sink;  // keeps reads from being optimised away

using Words = volatile std::uint64_t*;

void first_touch(Words words) {
    for (std::uint64_t i = 0; i < kWords; i += 512) words[i] = i;
}
void sequential_write(Words words) {
    for (std::uint64_t i = 0; i < kWords; ++i) words[i] = i;
}
void sequential_read(Words words) {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < kWords; ++i) sum += words[i];
    g_sink = sum;
}
// A multiplicative walk over all words: the same addresses in the same order for both sides.
std::uint64_t next_index(std::uint64_t& state) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state >> 24) % kWords;
}
void random_read(Words words) {
    std::uint64_t state = 1, sum = 0;
    for (std::uint64_t i = 0; i < kRandomOperations; ++i) sum += words[next_index(state)];
    g_sink = sum;
}
void random_write(Words words) {
    std::uint64_t state = 2;
    for (std::uint64_t i = 0; i < kRandomOperations; ++i) words[next_index(state)] = i;
}

struct Workload {
    const char* name;
    void (*run)(Words);
};
constexpr Workload kWorkloads[] = {{"first-touch", first_touch},
                                   {"sequential-write", sequential_write},
                                   {"sequential-read", sequential_read},
                                   {"random-read", random_read},
                                   {"random-write", random_write}};

// All workloads in order on fresh files, the two sides in turn; the first run warms up.
struct Times {
    std::vector<double> pool[std::size(kWorkloads)];
    std::vector<double> plain[std::size(kWorkloads)];
    std::vector<double> ratio[std::size(kWorkloads)];  // of one run: both saw the same neighbours
};

// The sides in turn, several times over; who goes first changes from run to run. First touch can be
// timed once.
void time_workload(const Workload& workload, Words pool, Words plain, bool pool_first,
                   double& pool_s, double& plain_s) {
    const int turns = workload.run == first_touch ? 1 : kTurns;
    for (int turn = 0; turn < 2 * turns; ++turn) {
        const bool is_pool = (turn % 2 == 0) == pool_first;
        (is_pool ? pool_s : plain_s) += time_s([&] { workload.run(is_pool ? pool : plain); });
    }
}

Status run_once(const PoolSession& session, const PlainTmpfs& tmpfs, int run, Times& times) {
    auto pool = PoolMapping::create(session, "/bench", kBytes);
    if (!pool) return pool.error();
    auto plain = PlainMapping::create(tmpfs.file("bench"), kBytes);
    if (!plain) return plain.error();
    for (std::size_t i = 0; i < std::size(kWorkloads); ++i) {
        double pool_s = 0, plain_s = 0;
        time_workload(kWorkloads[i], reinterpret_cast<Words>(pool->address()),
                      reinterpret_cast<Words>(plain->address()), run % 2 == 0, pool_s, plain_s);
        if (run == 0) continue;
        times.pool[i].push_back(pool_s);
        times.plain[i].push_back(plain_s);
        times.ratio[i].push_back(plain_s / pool_s);
    }
    return {};
}

// The first touch of a tracked file pays for the first store into each region.
void report_times(const Times& times, unsigned copies, Report& report) {
    bool all = true;
    for (std::size_t i = 0; i < std::size(kWorkloads); ++i) {
        const double pool = median(times.pool[i]), plain = median(times.plain[i]);
        const double ratio = median(times.ratio[i]);
        const bool counts = copies == 1 || kWorkloads[i].run != first_touch;
        all = all && (!counts || ratio >= kWanted);
        report.row({{"workload", kWorkloads[i].name},
                    {"copies", copies},
                    {"pool_ms", pool * 1e3},
                    {"plain_ms", plain * 1e3},
                    {"ratio", ratio}});
    }
    report.target(copies == 1 ? "one copy: 0.97 or better in each"
                              : "two copies, tracked: 0.97 or better in each after first touch",
                  all);
}

std::uint64_t clean_bytes(const cli::ControlClient& control) {
    const auto maps = control.get("/v1/maps?path=/bench");
    if (!maps || (*maps)["mappings"].empty()) return 0;
    return (*maps)["mappings"][0].value("clean_bytes", std::uint64_t{0});
}

// Clean regions are write-protected, which the kernel does in small pages: what reading them costs,
// and what storing into them costs the first time.
Status time_clean(const PoolSession& session, const PlainTmpfs& tmpfs,
                  const cli::ControlClient& control, const Options& options, Report& report) {
    constexpr double kLimitS = 20;
    std::vector<double> first_read, read, store;
    for (int run = 0; run < options.runs; ++run) {
        auto pool = PoolMapping::create(session, "/bench", kBytes);
        if (!pool) return pool.error();
        auto plain = PlainMapping::create(tmpfs.file("bench"), kBytes);
        if (!plain) return plain.error();
        const auto pool_words = reinterpret_cast<Words>(pool->address());
        const auto plain_words = reinterpret_cast<Words>(plain->address());
        sequential_write(pool_words);
        sequential_write(plain_words);
        RETURN_IF_ERROR(pool->persist(0, kBytes));
        for (const double start = now_s(); clean_bytes(control) < kBytes;) {
            if (now_s() - start > kLimitS)
                return base::Error(base::Code::TimedOut, "the mapping does not become clean");
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
        const double plain_s = time_s([&] { random_read(plain_words); });
        first_read.push_back(plain_s / time_s([&] { random_read(pool_words); }));
        read.push_back(plain_s / time_s([&] { random_read(pool_words); }));
        const double touch_s = time_s([&] { first_touch(pool_words); });
        store.push_back(touch_s * 1e6 / static_cast<double>(kBytes >> 21));
    }
    report.row({{"workload", "random-read of clean regions"},
                {"copies", 2},
                {"first_ratio", median(first_read)},
                {"ratio", median(read)},
                {"first_store_us_per_region", median(store)}});
    return {};
}

}  // namespace

Status run_mapped(const Options& options) {
    auto daemon = cli::LocalDaemon::start(
        {"--create", "bench", "--device", "a=ram:1G", "--device", "b=ram:1G"});
    if (!daemon) return daemon.error();
    auto session = PoolSession::connect(daemon->session_socket());
    if (!session) return session.error();
    auto tmpfs = PlainTmpfs::create(1ull << 30);
    if (!tmpfs) return tmpfs.error();
    Report report("mapped", options);
    report.input("file", base::format_size(kBytes));
    report.input("devices", "2 x ram:1G; the plain file is on a tmpfs made by the same code");
    report.input("random operations", kRandomOperations);
    report.input("turns of each side in a run", kTurns);
    const cli::ControlClient control(daemon->control_socket());
    for (const unsigned copies : {1u, 2u}) {
        // New files have what their directory has.
        auto set = control.post("/v1/files/set", Json{{"path", "/"}, {"replicas", copies}});
        if (!set) return set.error();
        Times times;
        for (int run = 0; run <= options.runs; ++run)
            RETURN_IF_ERROR(run_once(*session, *tmpfs, run, times));
        report_times(times, copies, report);
    }
    RETURN_IF_ERROR(time_clean(*session, *tmpfs, control, options, report));
    report.finish();
    return {};
}

}  // namespace refault::bench
