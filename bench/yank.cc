// yank: a device goes away under 1, 8 and 64 processes that read a file on it all the time. How
// long until the last access of any of them to the lost memory, over a bare ftruncate(0) of a plain
// file with as many readers; until every one of them was interrupted (on both sides one that has no
// processor first waits for one); and until all of them run again, from the copy.
//
// The lost memory is told from the copy by what is in it: the primary has 2 in every page, the copy
// 1 (stored and persisted before). A process is interrupted by the access after the last one that
// read 2, and runs again when it reads 1. Times are of one clock and begin before the first
// truncation. The plain readers end at their SIGBUS: they have no copy.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "bench/bench_pool.h"
#include "bench/child.h"
#include "bench/harness.h"
#include "bench/plain_file.h"
#include "bench/pool_file.h"

namespace refault::bench {

namespace {

constexpr std::uint64_t kPage = base::kPageBytes;
constexpr std::uint64_t kBytes = 16 << 20;
constexpr std::size_t kReadersMax = 64;
constexpr const char* kPath = "/bench";

struct ReaderState {
    std::atomic<std::uint32_t> is_running{0};
    std::atomic<double> last_begin_s{0};   // an access began then
    std::atomic<double> last_lost_s{0};    // the last of those that reached the lost memory
    std::atomic<double> interrupted_s{0};  // the first of those that did not
    std::atomic<double> first_copy_s{0};   // it had its value from the copy
};

struct Readers {
    // What is read: the pages of the file that lie on the device that goes.
    std::array<std::atomic<std::uint32_t>, kBytes / kPage> pages{};
    std::atomic<std::uint32_t> page_count{0};
    std::array<ReaderState, kReadersMax> readers;
};

struct Group {
    Shared<Readers> state;
    std::vector<Child> children;

    std::size_t size() const { return children.size(); }
    bool all(const std::function<bool(const ReaderState&)>& condition) const {
        return std::all_of(state->readers.begin(),
                           state->readers.begin() + static_cast<std::ptrdiff_t>(size()), condition);
    }
    double latest(std::atomic<double> ReaderState::*time) const {
        double latest = 0;
        for (std::size_t i = 0; i < size(); ++i)
            latest = std::max(latest, (state->readers[i].*time).load());
        return latest;
    }
};

// All of them have read every page when this returns.
Result<Group> start_readers(std::size_t count, const std::string& where, int plain_fd,
                            const std::vector<std::uint32_t>& pages) {
    auto state = Shared<Readers>::create();
    if (!state) return state.error();
    Group group{std::move(*state), {}};
    for (std::size_t i = 0; i < pages.size(); ++i) group.state->pages[i].store(pages[i]);
    group.state->page_count.store(static_cast<std::uint32_t>(pages.size()));
    for (std::size_t i = 0; i < count; ++i) {
        std::vector<int> descriptors{group.state.fd()};
        if (plain_fd >= 0) descriptors.push_back(plain_fd);
        auto child = Child::start(
            "reader",
            {where, std::to_string(plain_fd), std::to_string(group.state.fd()), std::to_string(i)},
            descriptors);
        if (!child) return child.error();
        group.children.push_back(std::move(*child));
    }
    const auto is_running = [](const ReaderState& one) { return one.is_running.load() == 1; };
    if (!wait_for([&] { return group.all(is_running); }))
        return base::Error(base::Code::TimedOut, "not every reader came up");
    return group;
}

// Returns, without having slept, while one of the readers has a processor: a loss at a moment when
// none has tells nothing about the last access.
void wait_until_one_runs(const Group& group) {
    constexpr double kJustNowS = 5e-6;
    const double deadline = now_s() + 1;
    for (double now = now_s(); now < deadline; now = now_s())
        if (group.latest(&ReaderState::last_begin_s) > now - kJustNowS) return;
}

void fill(std::byte* bytes, std::byte value) {
    for (std::uint64_t at = 0; at < kBytes; at += kPage) bytes[at] = value;
}

// What an outside hand does to a device. The segment that the readers read goes first, as the plain
// file does: the clock is not to run while others are cut.
class Hand {
  public:
    static Result<Hand> on(const device::Device& device, std::uint64_t read_offset) {
        Hand hand;
        for (const auto& entry : std::filesystem::directory_iterator(device.directory()))
            if (entry.path().filename().string().starts_with("seg-"))
                hand.paths_.push_back(entry.path().string());
        std::sort(hand.paths_.begin(), hand.paths_.end());
        const auto first = device.segment_at(read_offset).raw();
        char name[32];
        std::snprintf(name, sizeof(name), "/seg-%05llu", static_cast<unsigned long long>(first));
        std::stable_partition(hand.paths_.begin(), hand.paths_.end(),
                              [&](const std::string& path) { return path.ends_with(name); });
        for (const auto& path : hand.paths_)
            hand.files_.emplace_back(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        return hand;
    }
    Status cut() {
        for (const auto& file : files_)
            if (::ftruncate(file.get(), 0) != 0) return base::sys_error("ftruncate");
        for (const auto& path : paths_)
            if (::unlink(path.c_str()) != 0) return base::sys_error(path);
        return {};
    }

  private:
    std::vector<std::string> paths_;
    std::vector<base::UniqueFd> files_;
};

struct Yanked {
    double last_access_ms = 0;
    double interrupted_ms = 0;
    double running_ms = 0;
    double cut_ms = 0;      // the truncations themselves
    double handled_ms = 0;  // until the pipeline had done its work
    std::vector<std::uint32_t> pages;
};

// The pages of the file whose primary is on the device.
std::vector<std::uint32_t> pages_on(const store::Store& store, base::InodeNo inode,
                                    base::DeviceId device) {
    std::vector<std::uint32_t> pages;
    for (const auto& extent : store.extents(inode, base::FileRange(0, kBytes)))
        if (extent.replica == 0 && extent.device == device)
            for (std::uint64_t at = 0; at < extent.length; at += kPage)
                pages.push_back(static_cast<std::uint32_t>((extent.file_offset + at) / kPage));
    return pages;
}

Status prepare_file(BenchPool& pool) {
    auto made = pool.make_file(kPath, kBytes, 2);
    if (!made) return made.error();
    auto session = PoolSession::connect(pool.socket());
    if (!session) return session.error();
    auto mapping = PoolMapping::open(*session, kPath, kBytes);
    if (!mapping) return mapping.error();
    fill(mapping->address(), std::byte{1});
    RETURN_IF_ERROR(mapping->persist(0, kBytes));
    return {};
}

Result<Yanked> yank(std::size_t count) {
    auto pool = BenchPool::create({"a=ram:6G", "b=ram:6G"});
    if (!pool) return pool.error();
    RETURN_IF_ERROR(prepare_file(**pool));
    auto session = PoolSession::connect((*pool)->socket());
    if (!session) return session.error();
    auto writer = PoolMapping::open(*session, kPath, kBytes);
    if (!writer) return writer.error();
    fill(writer->address(), std::byte{2});
    auto attributes = (*pool)->store().stat(kPath, base::Cred{});
    if (!attributes) return attributes.error();
    auto page = (*pool)->page_at(attributes->inode, 0);
    if (!page) return page.error();
    auto device = (*pool)->store().device(page->device);
    if (!device) return device.error();
    const auto pages = pages_on((*pool)->store(), attributes->inode, page->device);
    auto group = start_readers(count, (*pool)->socket(), -1, pages);
    if (!group) return group.error();

    auto hand = Hand::on(**device, page->device_offset);
    if (!hand) return hand.error();
    Yanked yanked;
    yanked.pages = pages;
    wait_until_one_runs(*group);
    const double start = now_s();
    RETURN_IF_ERROR(hand->cut());
    yanked.cut_ms = (now_s() - start) * 1e3;
    auto record = (*pool)->pool().notify_failure((*device)->name(),
                                                 base::DeviceRange(0, (*device)->capacity_bytes()),
                                                 store::FailureKind::SurpriseRemoval);
    // The watch on the device may have been quicker.
    if (!record && record.error().code() != base::Code::NotFound) return record.error();
    yanked.handled_ms = (now_s() - start) * 1e3;
    const auto runs = [](const ReaderState& one) { return one.first_copy_s.load() > 0; };
    if (!wait_for([&] { return group->all(runs); }))
        return base::Error(base::Code::TimedOut, "not every reader runs again from the copy");
    yanked.last_access_ms = std::max(0.0, group->latest(&ReaderState::last_lost_s) - start) * 1e3;
    yanked.interrupted_ms = (group->latest(&ReaderState::interrupted_s) - start) * 1e3;
    yanked.running_ms = (group->latest(&ReaderState::first_copy_s) - start) * 1e3;
    return yanked;
}

// Of a plain file: nobody runs again.
Result<Yanked> truncate_plainly(const PlainTmpfs& tmpfs, std::size_t count,
                                const std::vector<std::uint32_t>& pages) {
    auto plain = PlainMapping::create(tmpfs.file("plain"), kBytes);
    if (!plain) return plain.error();
    fill(plain->address(), std::byte{2});
    auto group = start_readers(count, "plain", plain->fd(), pages);
    if (!group) return group.error();
    wait_until_one_runs(*group);
    const double start = now_s();
    if (::ftruncate(plain->fd(), 0) != 0) return base::sys_error("ftruncate");
    Yanked cut;
    cut.cut_ms = (now_s() - start) * 1e3;
    const auto ended = [](const ReaderState& one) { return one.interrupted_s.load() > 0; };
    if (!wait_for([&] { return group->all(ended); }))
        return base::Error(base::Code::TimedOut, "not every plain reader was interrupted");
    cut.last_access_ms = std::max(0.0, group->latest(&ReaderState::last_lost_s) - start) * 1e3;
    cut.interrupted_ms = (group->latest(&ReaderState::interrupted_s) - start) * 1e3;
    return cut;
}

double median_of(const std::vector<Yanked>& runs, double Yanked::*figure) {
    std::vector<double> values;
    for (const auto& run : runs) values.push_back(run.*figure);
    return median(values);
}

// Runs in which no reader had a processor at the moment of the loss say nothing about the last
// access.
std::vector<Yanked> with_access(std::vector<Yanked> runs) {
    std::erase_if(runs, [](const Yanked& run) { return run.last_access_ms == 0; });
    return runs;
}

ReaderState* g_reader;

void end_at_sigbus(int) {
    g_reader->interrupted_s.store(g_reader->last_begin_s.load());
    ::_exit(0);
}

void read_all_the_time(const Readers& group, ReaderState& state, const std::byte* bytes) {
    const auto count = group.page_count.load();
    for (std::uint64_t reads = 0;; ++reads) {
        const std::uint64_t page = group.pages[reads % count].load(std::memory_order_relaxed);
        const double now = now_s();
        state.last_begin_s.store(now, std::memory_order_relaxed);
        const auto value = *reinterpret_cast<const volatile std::byte*>(bytes + page * kPage);
        if (value == std::byte{2}) {
            state.last_lost_s.store(now, std::memory_order_relaxed);
        } else if (state.first_copy_s.load(std::memory_order_relaxed) == 0) {
            state.interrupted_s.store(now);
            state.first_copy_s.store(now_s());
        }
        if (reads == count) state.is_running.store(1);
    }
}

}  // namespace

// SOCKET|plain PLAIN-FD STATE-FD NUMBER
int run_reader(const std::vector<std::string>& arguments) {
    if (arguments.size() != 4) return 2;
    auto state = Shared<Readers>::inherited(arguments[2]);
    if (!state) return 1;
    g_reader = &(*state)->readers.at(std::stoul(arguments[3]));
    if (arguments[0] == "plain") {
        ::signal(SIGBUS, end_at_sigbus);
        void* at =
            ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, std::stoi(arguments[1]), 0);
        if (at == MAP_FAILED) return 1;
        read_all_the_time(**state, *g_reader, static_cast<std::byte*>(at));
    }
    auto session = PoolSession::connect(arguments[0]);
    if (!session) return 1;
    auto mapping = PoolMapping::open(*session, kPath, kBytes);
    if (!mapping) return 1;
    read_all_the_time(**state, *g_reader, mapping->address());
    return 0;
}

Status run_yank(const Options& options) {
    auto tmpfs = PlainTmpfs::create(kBytes + (16 << 20));
    if (!tmpfs) return tmpfs.error();
    Report report("yank", options);
    report.input("file", "16 MiB, two copies, each in one or two segments of 32 MiB");
    report.input("access", "every process reads the pages on that device in turn, without a pause");
    bool is_quick = true;
    for (const std::size_t count : {1u, 8u, 64u}) {
        std::vector<Yanked> pool, plain;
        for (int run = 0; run <= options.runs; ++run) {
            auto yanked = yank(count);
            if (!yanked) return yanked.error();
            auto truncated = truncate_plainly(*tmpfs, count, yanked->pages);
            if (!truncated) return truncated.error();
            if (run == 0) continue;
            pool.push_back(*yanked);
            plain.push_back(*truncated);
        }
        const auto seen = with_access(pool), plain_seen = with_access(plain);
        const double last = median_of(seen, &Yanked::last_access_ms);
        const double plain_last = median_of(plain_seen, &Yanked::last_access_ms);
        const bool is_known = !seen.empty() && !plain_seen.empty();
        is_quick = is_quick && is_known && last <= 1.5 * plain_last;
        report.row({{"processes", count},
                    {"interrupted_ms", median_of(pool, &Yanked::interrupted_ms)},
                    {"plain_interrupted_ms", median_of(plain, &Yanked::interrupted_ms)},
                    {"ratio", is_known ? Json(last / plain_last) : Json("unknown")},
                    {"runs_with_access", seen.size()},
                    {"plain_runs_with_access", plain_seen.size()},
                    {"last_access_ms", last},
                    {"plain_last_access_ms", plain_last},
                    {"cut_ms", median_of(pool, &Yanked::cut_ms)},
                    {"plain_cut_ms", median_of(plain, &Yanked::cut_ms)},
                    {"handled_ms", median_of(pool, &Yanked::handled_ms)},
                    {"all_run_again_ms", median_of(pool, &Yanked::running_ms)}});
    }
    report.target("last access to the lost memory at most 1.5 times that of the bare ftruncate",
                  is_quick);
    report.finish();
    return {};
}

}  // namespace refault::bench
