// persist: rf_persist of 4 KiB and 1 MiB of a file with two copies, over libpmemobj's
// pmemobj_persist in a pool set with one local replica, and over msync(MS_SYNC) of a plain file on
// tmpfs (which has one copy and nothing to do). Each round stores fresh bytes; the persist alone is
// timed.
//
// libpmemobj is measured twice: with PMEM_IS_PMEM_FORCE=1, as on persistent memory (flushes and
// stores past the caches, no system call), which is the one that the target is about; and without,
// where it takes tmpfs for a file and calls msync.
#include <sys/mman.h>

#include <cstring>
#include <optional>

#include "bench/bench_pool.h"
#include "bench/harness.h"
#include "bench/plain_file.h"
#include "bench/pmem_pool.h"
#include "bench/pool_file.h"

namespace refault::bench {

namespace {

constexpr std::uint64_t kBytes = 8 << 20;

struct Sides {
    PoolMapping& pool;
    PlainMapping& plain;
    std::optional<PmemPool> forced, unforced;
};

struct Times {
    std::vector<double> refault, forced, unforced, msync;
};

// What a round stores is never what was there.
Result<double> time_refault(const PoolMapping& pool, std::uint64_t length) {
    Status done;
    const double seconds = median_of_rounds([&](int round) {
        std::memset(pool.address(), round, length);
        return time_s([&] {
            if (auto persisted = pool.persist(0, length); !persisted) done = persisted;
        });
    });
    if (!done) return done.error();
    return seconds;
}

Result<double> time_msync(const PlainMapping& plain, std::uint64_t length) {
    int failures = 0;
    const double seconds = median_of_rounds([&](int round) {
        std::memset(plain.address(), round, length);
        return time_s([&] {
            if (::msync(plain.address(), length, MS_SYNC) != 0) ++failures;
        });
    });
    if (failures > 0) return base::sys_error("msync");
    return seconds;
}

Status add(std::vector<double>& times, Result<double> seconds) {
    if (!seconds) return seconds.error();
    times.push_back(*seconds);
    return {};
}

Status run_once(Sides& sides, std::uint64_t length, Times& times) {
    RETURN_IF_ERROR(add(times.refault, time_refault(sides.pool, length)));
    if (sides.forced) {
        RETURN_IF_ERROR(add(times.forced, sides.forced->time_persist(length)));
        RETURN_IF_ERROR(add(times.unforced, sides.unforced->time_persist(length)));
    }
    return add(times.msync, time_msync(sides.plain, length));
}

// True when the target is reached, or cannot be told.
Result<bool> measure(Report& report, Sides& sides, std::uint64_t length, int runs) {
    Times times, warm;
    for (int run = 0; run <= runs; ++run)
        RETURN_IF_ERROR(run_once(sides, length, run == 0 ? warm : times));
    const double refault = median(times.refault), msync = median(times.msync);
    Json row{{"bytes", length},
             {"refault_us", refault * 1e6},
             {"msync_us", msync * 1e6},
             {"over_msync", refault / msync}};
    const double forced = median(times.forced);
    if (sides.forced) {
        row["pmemobj_us"] = forced * 1e6;
        row["pmemobj_not_forced_us"] = median(times.unforced) * 1e6;
        row["ratio"] = refault / forced;
        row["ratio_not_forced"] = refault / median(times.unforced);
    }
    report.row(row);
    return !sides.forced || refault / forced <= 1.2;
}

// The copy holds what was persisted: promoted by a loss of the primary, it is what is read.
Status check_copy(BenchPool& pool, base::InodeNo inode, const PoolMapping& mapping) {
    std::memset(mapping.address(), 0x5a, base::kPageBytes);
    RETURN_IF_ERROR(mapping.persist(0, base::kPageBytes));
    std::memset(mapping.address(), 0, base::kPageBytes);
    auto page = pool.page_at(inode, 0);
    if (!page) return page.error();
    auto device = pool.store().device(page->device);
    if (!device) return device.error();
    auto failed = pool.pool().notify_failure(
        (*device)->name(), base::DeviceRange::of_length(page->device_offset, base::kPageBytes),
        store::FailureKind::Poison);
    if (!failed) return failed.error();
    if (mapping.address()[17] != std::byte{0x5a})
        return base::Error(base::Code::Corrupt, "the copy does not hold what was persisted");
    return {};
}

}  // namespace

Status run_persist(const Options& options) {
    auto pool = BenchPool::create({"a=ram:64M", "b=ram:64M"});
    if (!pool) return pool.error();
    auto inode = (*pool)->make_file("/bench", kBytes, 2);
    if (!inode) return inode.error();
    auto session = PoolSession::connect((*pool)->socket());
    if (!session) return session.error();
    auto mapping = PoolMapping::open(*session, "/bench", kBytes);
    if (!mapping) return mapping.error();
    auto tmpfs = PlainTmpfs::create(kBytes + (8 << 20));
    if (!tmpfs) return tmpfs.error();
    auto plain = PlainMapping::create(tmpfs->file("plain"), kBytes);
    if (!plain) return plain.error();
    RETURN_IF_ERROR(check_copy(**pool, *inode, *mapping));

    Report report("persist", options);
    report.input("rounds of each side in a run", kRoundsOfRun);
    Sides sides{*mapping, *plain, std::nullopt, std::nullopt};
    if (has_libpmemobj()) {
        for (const bool is_forced : {true, false}) {
            auto made = PmemPool::create(kBytes, is_forced);
            if (!made) return made.error();
            (is_forced ? sides.forced : sides.unforced).emplace(std::move(*made));
        }
        report.input("libpmemobj",
                     "one local replica, both parts in /dev/shm; pmemobj_us and ratio are with "
                     "PMEM_IS_PMEM_FORCE=1");
    } else {
        report.input("libpmemobj", "libpmemobj is not installed");
    }
    bool is_reached = true;
    for (const std::uint64_t length : {4096ull, 1ull << 20}) {
        auto reached = measure(report, sides, length, options.runs);
        if (!reached) return reached.error();
        is_reached = is_reached && *reached;
    }
    if (sides.forced) report.target("at most 1.2 times libpmemobj", is_reached);
    report.finish();
    return {};
}

}  // namespace refault::bench
