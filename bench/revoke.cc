// revoke: one page of a mapped file fails, over a bare fallocate(PUNCH_HOLE) of one page of a plain
// file that the same process maps in the same way; from 10^3 to 10^6 inodes.
//
// Both sides end when the page is in no page table any more. Refault's begins with the notice: the
// page is found in the reverse map and locked out of its mappings, so that a touch waits instead of
// finding an empty page, and punched. `whole_us` goes on until the page is written anew from the
// second copy and its mappings are let go again, and the caller knows.
#include <fcntl.h>

#include <cstring>

#include "bench/bench_pool.h"
#include "bench/child.h"
#include "bench/harness.h"
#include "bench/hole_pool.h"
#include "bench/plain_file.h"
#include "bench/pool_file.h"

namespace refault::bench {

namespace {

constexpr std::uint64_t kPage = base::kPageBytes;
constexpr std::uint64_t kHugePage = 2 << 20;
constexpr std::uint64_t kBytes = 64 << 20;
// The first page that goes out of a huge page splits it: that is counted by itself.
constexpr std::uint64_t kPagesOfHuge = 8;
constexpr const char* kDeviceSize = "ram:6G";

struct HolderState {
    std::atomic<std::uint32_t> is_ready{0};
    std::atomic<std::uint32_t> round{0};  // touch every page again
    std::atomic<std::uint32_t> rounds_done{0};
};

// Both files, mapped by one process.
struct Files {
    base::InodeNo inode;
    PlainMapping plain;
    Shared<HolderState> state;
    Child holder;
};

Result<Files> make_files(BenchPool& pool, const PlainTmpfs& tmpfs, const std::string& path) {
    auto inode = pool.make_file(path, kBytes, 2);
    if (!inode) return inode.error();
    auto plain = PlainMapping::create(tmpfs.file("plain"), kBytes);
    if (!plain) return plain.error();
    auto state = Shared<HolderState>::create();
    if (!state) return state.error();
    auto holder = Child::start(
        "holder", {pool.socket(), path, std::to_string(plain->fd()), std::to_string(state->fd())},
        {plain->fd(), state->fd()});
    if (!holder) return holder.error();
    if (!wait_for([&] { return (*state)->is_ready.load() == 1 || holder->has_ended(); }) ||
        holder->has_ended())
        return base::Error(base::Code::Gone, "the process that maps the files ended");
    return Files{*inode, std::move(*plain), std::move(*state), std::move(*holder)};
}

struct Times {
    std::vector<double> revoked, whole, plain;
    double ratio() const { return median(revoked) / median(plain); }
};

// Fails when the page was not repaired.
Status time_revoke(BenchPool& pool, base::InodeNo inode, std::uint64_t offset, Times& times) {
    auto page = pool.page_at(inode, offset);
    if (!page) return page.error();
    auto device = pool.store().device(page->device);
    if (!device) return device.error();
    const auto name = (*device)->name();
    Result<std::uint64_t> record = std::uint64_t{0};
    const double seconds = time_s([&] {
        record = pool.pool().notify_failure(
            name, base::DeviceRange::of_length(page->device_offset, kPage),
            store::FailureKind::Poison);
    });
    if (!record) return record.error();
    const auto last = pool.pool().failures().records().back();
    if (last.parts.size() != 1 || last.parts[0].outcome != failure::Outcome::Repaired)
        return base::Error(base::Code::Io, "the page was not repaired in place");
    times.whole.push_back(seconds);
    times.revoked.push_back(last.unmapped_ms / 1e3);
    return {};
}

Result<double> time_punch(const PlainMapping& plain, std::uint64_t offset) {
    int result = -1;
    const double seconds = time_s([&] {
        result = ::fallocate(plain.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                             static_cast<off_t>(offset), kPage);
    });
    if (result != 0) return base::sys_error("fallocate");
    return seconds;
}

// No page of a device fails twice, lest it be retired: `serial` chooses others in each run.
Status run_once(BenchPool& pool, const PlainTmpfs& tmpfs, std::uint64_t serial, Times& huge,
                Times& small) {
    const std::string path = "/bench-" + std::to_string(serial);
    auto files = make_files(pool, tmpfs, path);
    if (!files) return files.error();
    // What the run before has left to the resync is not this one's.
    (void)pool.pool().resync().wait_until_idle(std::chrono::steady_clock::now() +
                                               std::chrono::seconds(10));
    // The first failure of a run also has the file's layout and the processor's caches to warm.
    for (std::uint64_t i = 0; i < kPagesOfHuge; ++i) {
        for (std::uint64_t at = 0; at < kBytes; at += kHugePage) {
            const auto offset = at + (serial * kPagesOfHuge + i) * kPage % kHugePage;
            auto& into = i == 0 ? huge : small;
            RETURN_IF_ERROR(time_revoke(pool, files->inode, offset, into));
            auto plain = time_punch(files->plain, offset);
            if (!plain) return plain.error();
            into.plain.push_back(*plain);
        }
        // Everybody has every page in its tables again.
        const auto round = files->state->round.fetch_add(1) + 1;
        if (!wait_for([&] { return files->state->rounds_done.load() == round; }))
            return base::Error(base::Code::TimedOut, "the process that maps the files is silent");
    }
    return pool.store().unlink(path, base::Cred{});
}

void touch_all(std::byte* bytes) {
    for (std::uint64_t at = 0; at < kBytes; at += kPage)
        *reinterpret_cast<volatile std::byte*>(bytes + at) = std::byte{1};
}

}  // namespace

// SOCKET PATH PLAIN-FD STATE-FD
int run_holder(const std::vector<std::string>& arguments) {
    if (arguments.size() != 4) return 2;
    auto state = Shared<HolderState>::inherited(arguments[3]);
    auto session = PoolSession::connect(arguments[0]);
    if (!state || !session) return 1;
    auto mapping = PoolMapping::open(*session, arguments[1], kBytes);
    void* plain =
        ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, std::stoi(arguments[2]), 0);
    if (!mapping || plain == MAP_FAILED) return 1;
    touch_all(mapping->address());
    if (!mapping->persist(0, kBytes)) return 1;
    touch_all(static_cast<std::byte*>(plain));
    (*state)->is_ready.store(1);
    for (;;) {
        const auto done = (*state)->rounds_done.load();
        (void)wait_for([&] { return (*state)->round.load() != done; });
        touch_all(mapping->address());
        touch_all(static_cast<std::byte*>(plain));
        (*state)->rounds_done.store((*state)->round.load());
    }
}

Status run_revoke(const Options& options) {
    auto pool =
        BenchPool::create({std::string("a=") + kDeviceSize, std::string("b=") + kDeviceSize});
    if (!pool) return pool.error();
    auto tmpfs = PlainTmpfs::create(kBytes + (64 << 20));
    if (!tmpfs) return tmpfs.error();
    Report report("revoke", options);
    report.input("file", "64 MiB, two copies, mapped by one process; the plain file, too");
    report.input("revoke_us", "from the notice until no page table has the page");
    report.input("whole_us", "until it is repaired and the caller knows");
    report.input("failures a run", kBytes / kHugePage * kPagesOfHuge);
    std::vector<base::InodeNo> files;
    std::vector<double> medians;
    std::uint64_t serial = 0;
    bool is_cheap = true;
    for (const std::uint64_t inodes : {1'000ull, 10'000ull, 100'000ull, 1'000'000ull}) {
        RETURN_IF_ERROR(grow_to((*pool)->store(), inodes, files));
        Times huge, small, warm;
        for (int run = 0; run <= options.runs; ++run)
            RETURN_IF_ERROR(run_once(**pool, *tmpfs, serial++, run == 0 ? warm : huge,
                                     run == 0 ? warm : small));
        for (const auto& [what, times] :
             {std::pair("first of a huge page", &huge), std::pair("among small pages", &small)})
            report.row({{"inodes", inodes},
                        {"page", what},
                        {"revoke_us", median(times->revoked) * 1e6},
                        {"revoke_p99_us", percentile(times->revoked, 0.99) * 1e6},
                        {"whole_us", median(times->whole) * 1e6},
                        {"punch_us", median(times->plain) * 1e6},
                        {"ratio", times->ratio()}});
        medians.push_back(median(small.revoked));
        is_cheap = is_cheap && huge.ratio() <= 3 && small.ratio() <= 3;
    }
    report.target("ratio 3 or less", is_cheap);
    report.target("at most 1.25 times as long at 10^6 inodes as at 10^3",
                  medians.back() <= 1.25 * medians.front());
    report.finish();
    return {};
}

}  // namespace refault::bench
