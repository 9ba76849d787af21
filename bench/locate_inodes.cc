// The reverse map beside the walk over all inodes, in one pool: files of one page each.
#include <random>

#include "bench/hole_pool.h"
#include "bench/locate_growth.h"

namespace refault::bench {

namespace {

constexpr std::uint64_t kDeviceBytes = 8ull << 30;
constexpr std::uint64_t kRmapQueries = 20'000;
// A walk looks at every inode: of the larger pools, fewer walks make a run.
constexpr std::uint64_t kInodesLookedAt = 1'000'000;

std::vector<base::DeviceRange> random_pages(const store::Store& store, std::uint64_t count,
                                            const std::vector<base::InodeNo>& files) {
    std::vector<base::DeviceRange> pages;
    std::mt19937_64 random(count);
    while (pages.size() < count) {
        const auto inode = files[random() % files.size()];
        pages.push_back(
            store.extents(inode, base::FileRange(0, base::kPageBytes)).at(0).device_range());
    }
    return pages;
}

// Median of microseconds a query; CHECKs that each finds one owner.
template <typename Locate>
double median_us(int runs, const store::Store& store, const std::vector<base::DeviceRange>& pages,
                 Locate locate) {
    std::vector<double> times;
    for (int run = 0; run <= runs; ++run) {
        std::size_t path_bytes = 0;
        const double seconds = time_s([&] {
            for (const auto page : pages) {
                const auto found = locate(page);
                CHECK(found.size() == 1);
                path_bytes += store.path_of(found[0].inode).size();
            }
        });
        CHECK(path_bytes > 0);
        if (run > 0) times.push_back(seconds / static_cast<double>(pages.size()) * 1e6);
    }
    return median(times);
}

}  // namespace

Status measure_by_inodes(Report& report, const Options& options) {
    auto pool = HolePool::create(kDeviceBytes);
    if (!pool) return pool.error();
    const auto& store = pool->store();
    const auto device = pool->device();
    report.input("query of rmap and inodes", "one page, among files of one page each");
    std::vector<base::InodeNo> files;
    for (const std::uint64_t inodes : {1'000ull, 10'000ull, 100'000ull, 1'000'000ull}) {
        RETURN_IF_ERROR(grow_to(pool->store(), inodes, files));
        const double rmap =
            median_us(options.runs, store, random_pages(store, kRmapQueries, files),
                      [&](base::DeviceRange page) { return store.locate(device, page); });
        const double walk =
            median_us(options.runs, store, random_pages(store, kInodesLookedAt / inodes, files),
                      [&](base::DeviceRange page) { return store.locate_by_inodes(device, page); });
        report.row({{"locator", "rmap"}, {"inodes", inodes}, {"us_per_query", rmap}});
        report.row({{"locator", "inodes"}, {"inodes", inodes}, {"us_per_query", walk}});
    }
    return {};
}

}  // namespace refault::bench
