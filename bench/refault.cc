// refault: one touch of a 4 KiB page whose place was taken away, until its value is read, over
// userfaultfd across processes: there a second process reads the fault from the descriptor and
// answers with UFFDIO_COPY.
//
// Refault has no fault loop: a page that is locked out has no place, a touch of it sleeps in the
// kernel, and it is the end of the lock-out that sets the way to the new place off. The equivalent
// is therefore timed from there, and not from the touch, which would time the operation that locks
// out: the touch sleeps already when `lift` is called, and the time ends when it has the value. On
// that way lie the doorbell to the program's pager, its question, the daemon's answer with the
// descriptor, the mapping over the old place, and the wake.
//
// The second row of Refault is the page that was repaired where it was: its place is the same, only
// the page-table entries are gone, and a touch is an ordinary fault that asks nobody.
#include "bench/bench_pool.h"
#include "bench/harness.h"
#include "bench/touch.h"
#include "session/write_barrier.h"

namespace refault::bench {

namespace {

using std::chrono::steady_clock;

constexpr std::uint64_t kPage = base::kPageBytes;
constexpr int kTouchesOfRun = 300;
// Odd in pages: the touches of a run are spread over the file.
constexpr std::uint64_t kStride = 37 * kPage;

struct Times {
    std::vector<double> moved, repaired, raw;
};

// One page of the pool file, taken out of every page table.
class PageTaken {
  public:
    static Result<PageTaken> take(BenchPool& pool, base::InodeNo inode, std::uint64_t offset) {
        auto page = pool.page_at(inode, offset);
        if (!page) return page.error();
        auto device = pool.store().device(page->device);
        if (!device) return device.error();
        PageTaken taken(pool, *page, *device);
        auto targets = pool.pool().registry().fence(inode, page->file_range(),
                                                    steady_clock::now() + std::chrono::seconds(1));
        if (!targets) return targets.error();
        taken.targets_ = std::move(*targets);
        const auto unstopped = taken.barrier_.close(taken.targets_);
        if (!unstopped.empty()) return base::Error(base::Code::Busy, "a mapping was not stopped");
        RETURN_IF_ERROR(taken.device_->punch(page->device_range()));
        return taken;
    }
    // As a copy to the new place does; nobody sees it before the end of the lock-out.
    Status write_back() {
        const std::vector<std::uint8_t> bytes(kPage, kTouchedValue);
        return device_->write(page_.device_offset, bytes);
    }
    void lift(session::LayerMask moved) {
        if (moved == 0) barrier_.open(targets_);
        pool_.pool().registry().lift(page_.inode, page_.file_range(), moved);
    }
    bool wait_until_placed() {
        return pool_.pool().registry().wait_until_placed(
            page_.inode, page_.file_range(), steady_clock::now() + std::chrono::seconds(5));
    }

  private:
    PageTaken(BenchPool& pool, const store::Extent& page, store::DevicePtr device)
        : pool_(pool), page_(page), device_(std::move(device)) {}
    BenchPool& pool_;
    store::Extent page_;
    store::DevicePtr device_;
    session::UserfaultBarrier barrier_;
    std::vector<session::FenceTarget> targets_;
};

Result<double> time_moved(BenchPool& pool, Toucher& toucher, base::InodeNo inode,
                          std::uint64_t offset) {
    auto taken = PageTaken::take(pool, inode, offset);
    if (!taken) return taken.error();
    toucher.touch(offset);
    RETURN_IF_ERROR(toucher.wait_until_blocked());
    RETURN_IF_ERROR(taken->write_back());
    const double start = now_s();
    taken->lift(session::kAllLayers);
    RETURN_IF_ERROR(toucher.finish());
    const double seconds = toucher.state().end_s.load() - start;
    if (!taken->wait_until_placed()) return base::Error(base::Code::TimedOut, "no report");
    return seconds;
}

Result<double> time_touch(Toucher& toucher, std::uint64_t offset) {
    toucher.touch(offset);
    RETURN_IF_ERROR(toucher.finish());
    return toucher.state().end_s.load() - toucher.state().begin_s.load();
}

Result<double> time_repaired(BenchPool& pool, Toucher& toucher, base::InodeNo inode,
                             std::uint64_t offset) {
    auto taken = PageTaken::take(pool, inode, offset);
    if (!taken) return taken.error();
    RETURN_IF_ERROR(taken->write_back());
    taken->lift(0);
    return time_touch(toucher, offset);
}

Status add(std::vector<double>& times, Result<double> seconds) {
    if (!seconds) return seconds.error();
    times.push_back(*seconds);
    return {};
}

Status run_once(BenchPool& pool, Toucher& mapped, Toucher& raw, base::InodeNo inode,
                std::uint64_t& offset, Times& times) {
    for (int i = 0; i < kTouchesOfRun; ++i) {
        RETURN_IF_ERROR(add(times.moved, time_moved(pool, mapped, inode, offset)));
        RETURN_IF_ERROR(add(times.raw, time_touch(raw, offset)));
        RETURN_IF_ERROR(add(times.repaired, time_repaired(pool, mapped, inode, offset)));
        offset = (offset + kStride) % kTouchedBytes;
    }
    return {};
}

}  // namespace

Status run_refault(const Options& options) {
    auto pool = BenchPool::create({"a=ram:96M", "b=ram:96M"});
    if (!pool) return pool.error();
    auto inode = (*pool)->make_file(kTouchedPath, kTouchedBytes, 1);
    if (!inode) return inode.error();
    auto mapped = Toucher::start((*pool)->socket());
    if (!mapped) return mapped.error();
    auto raw = Toucher::start("raw");
    if (!raw) return raw.error();
    Report report("refault", options);
    report.input("touches a run, of each kind", kTouchesOfRun);
    report.input("moved",
                 "from the end of the lock-out, the touch asleep, until the value is read");
    report.input("repaired", "an ordinary fault: from the touch until the value is read");
    report.input("raw",
                 "from the touch, by UFFDIO_COPY of another process, until the value is read");
    Times warm;
    std::vector<double> p50[3], p99[3];
    std::uint64_t offset = 0;
    for (int run = 0; run <= options.runs; ++run) {
        Times times;
        RETURN_IF_ERROR(run_once(**pool, *mapped, *raw, *inode, offset, run == 0 ? warm : times));
        if (run == 0) continue;
        const std::vector<double>* all[] = {&times.moved, &times.repaired, &times.raw};
        for (std::size_t i = 0; i < 3; ++i) {
            p50[i].push_back(percentile(*all[i], 0.5) * 1e6);
            p99[i].push_back(percentile(*all[i], 0.99) * 1e6);
        }
    }
    const char* names[] = {"moved", "repaired", "raw"};
    for (std::size_t i = 0; i < 3; ++i)
        report.row({{"touch", names[i]},
                    {"p50_us", median(p50[i])},
                    {"p99_us", median(p99[i])},
                    {"p50_ratio", median(p50[i]) / median(p50[2])},
                    {"p99_ratio", median(p99[i]) / median(p99[2])}});
    report.target("repaired: p50 and p99 at most 1.5 times raw",
                  median(p50[1]) <= 1.5 * median(p50[2]) && median(p99[1]) <= 1.5 * median(p99[2]));
    report.target("moved: p50 and p99 at most 1.5 times raw",
                  median(p50[0]) <= 1.5 * median(p50[2]) && median(p99[0]) <= 1.5 * median(p99[2]));
    report.finish();
    return {};
}

}  // namespace refault::bench
