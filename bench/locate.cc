// locate: the reverse map. One 4 KiB range to its owner (inode, file range, path) among 10^3 to
// 10^6 extents; then beside the other two locators (locate_growth.h).
#include <algorithm>
#include <numeric>
#include <random>

#include "bench/harness.h"
#include "bench/hole_pool.h"
#include "bench/locate_growth.h"
#include "store/store.h"

namespace refault::bench {

namespace {

constexpr std::size_t kFiles = 1000;
constexpr std::uint64_t kQueries = 200'000;
constexpr std::uint64_t kDeviceBytes = 6ull << 30;  // holes only: it takes no memory

// A pool in which every extent is one page and no two neighbours belong to one file.
class Fragmented {
  public:
    static Result<std::unique_ptr<Fragmented>> create() {
        auto made_pool = HolePool::create(kDeviceBytes);
        if (!made_pool) return made_pool.error();
        std::unique_ptr<Fragmented> pool(new Fragmented(std::move(*made_pool)));
        for (std::size_t i = 0; i < kFiles; ++i) {
            auto made = pool->store().create_file("/file-" + std::to_string(i), 0600, base::Cred{});
            if (!made) return made.error();
            pool->files_.push_back(made->inode);
        }
        return pool;
    }
    Status grow_to(std::uint64_t extents) {
        for (; extents_ < extents; ++extents_) {
            const auto inode = files_[extents_ % kFiles];
            auto layout = store().lock_layout(inode);
            RETURN_IF_ERROR(store().resize(inode, (extents_ / kFiles + 1) * base::kPageBytes));
        }
        return {};
    }

    // Device offsets of random pages that hold data.
    std::vector<std::uint64_t> random_places(std::uint64_t count) {
        std::vector<std::uint64_t> places;
        std::mt19937_64 random(count);
        while (places.size() < count) {
            const auto which = random() % extents_;
            const auto found = store().extents(
                files_[which % kFiles],
                base::FileRange::of_length(which / kFiles * base::kPageBytes, base::kPageBytes));
            if (!found.empty()) places.push_back(found[0].device_offset);
        }
        return places;
    }

    store::Store& store() { return pool_.store(); }
    base::DeviceId device() const { return pool_.device(); }

  private:
    explicit Fragmented(HolePool pool) : pool_(std::move(pool)) {}
    HolePool pool_;
    std::vector<base::InodeNo> files_;
    std::uint64_t extents_ = 0;
};

// Nanoseconds a query; CHECKs that every one finds exactly one owner.
double time_queries(store::Store& store, base::DeviceId device,
                    const std::vector<std::uint64_t>& places) {
    std::size_t path_bytes = 0;
    const double seconds = time_s([&] {
        for (const auto place : places) {
            const auto found =
                store.locate(device, base::DeviceRange::of_length(place, base::kPageBytes));
            CHECK(found.size() == 1);
            path_bytes += store.path_of(found[0].inode).size();
        }
    });
    CHECK(path_bytes > 0);
    return seconds / static_cast<double>(places.size()) * 1e9;
}

// Nanoseconds of one load that depends on the one before, at random places of as much memory as
// the records of `extents` take: what any index pays for the first look at a record.
double time_one_load(std::uint64_t extents) {
    constexpr std::uint64_t kRecordBytes = 24;
    std::vector<std::uint64_t> next(extents * kRecordBytes / sizeof(std::uint64_t));
    std::vector<std::uint64_t> order(next.size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(extents));
    for (std::size_t i = 0; i < order.size(); ++i) next[order[i]] = order[(i + 1) % order.size()];
    std::uint64_t at = 0;
    const double seconds = time_s([&] {
        for (std::uint64_t i = 0; i < kQueries; ++i) at = next[at];
    });
    CHECK(at < next.size());
    return seconds / static_cast<double>(kQueries) * 1e9;
}

}  // namespace

Status run_locate(const Options& options) {
    auto pool = Fragmented::create();
    if (!pool) return pool.error();
    Report report("locate", options);
    report.input("query", "device range of 4 KiB to inode, file range and path");
    report.input("files", kFiles);
    report.input("queries a run", kQueries);
    std::vector<double> medians;
    for (const std::uint64_t extents : {1'000ull, 10'000ull, 100'000ull, 1'000'000ull}) {
        RETURN_IF_ERROR((*pool)->grow_to(extents));
        const auto places = (*pool)->random_places(kQueries);
        std::vector<double> times, loads;
        for (int run = 0; run <= options.runs; ++run) {
            const double ns = time_queries((*pool)->store(), (*pool)->device(), places);
            if (run > 0) times.push_back(ns);
        }
        for (int run = 0; run < options.runs; ++run) loads.push_back(time_one_load(extents));
        medians.push_back(median(times));
        report.row({{"extents", extents},
                    {"ns_per_query", medians.back()},
                    {"over_first", medians.back() / medians.front()},
                    {"one_load_ns", median(loads)}});
    }
    report.target("under 2 microseconds at 10^6", medians.back() < 2000);
    report.target("at most twice as long at 10^6 as at 10^3",
                  medians.back() <= 2 * medians.front());
    pool->reset();
    RETURN_IF_ERROR(measure_by_inodes(report, options));
    RETURN_IF_ERROR(measure_by_pages(report, options));
    report.finish();
    return {};
}

}  // namespace refault::bench
