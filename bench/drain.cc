// drain: a live drain of 1 GiB with a writer running, over fallocate + memcpy of 1 GiB between two
// tmpfs of the same kind while the same writer runs; and the worst pause that the writer sees.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "base/units.h"
#include "bench/harness.h"
#include "bench/plain_file.h"
#include "bench/pool_file.h"
#include "cli/control_client.h"
#include "cli/local_daemon.h"

namespace refault::bench {

namespace {

constexpr std::uint64_t kBytes = 1ull << 30;
constexpr const char* kDeviceSize = "ram:1200M";

struct WriterState {
    std::atomic<std::uint32_t> is_running{0};
    std::atomic<std::uint32_t> must_stop{0};
    std::atomic<std::uint64_t> writes{0};
    std::atomic<std::uint64_t> worst_ns{0};
};

// A process that stores to random pages of the file and notes its longest store.
class Writer {
  public:
    static Result<Writer> start(const std::string& socket) {
        base::UniqueFd memory(::memfd_create("refault-bench", MFD_CLOEXEC));
        if (!memory || ::ftruncate(memory.get(), sizeof(WriterState)) != 0)
            return base::sys_error("memfd_create");
        void* block = ::mmap(nullptr, sizeof(WriterState), PROT_READ | PROT_WRITE, MAP_SHARED,
                             memory.get(), 0);
        if (block == MAP_FAILED) return base::sys_error("mmap");
        Writer writer(new (block) WriterState);
        auto pid = cli::start_program(cli::program_directory() + "/refault-bench",
                                      {"child-drain-writer", socket, std::to_string(memory.get())},
                                      {memory.get()});
        if (!pid) return pid.error();
        writer.pid_ = *pid;
        while (writer.state_->is_running.load() == 0) {
            if (::waitpid(writer.pid_, nullptr, WNOHANG) != 0) {
                writer.pid_ = -1;
                return base::Error(base::Code::Gone, "the writer process ended");
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        return writer;
    }
    ~Writer() {
        if (state_ == nullptr) return;
        state_->must_stop.store(1);
        if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
        ::munmap(state_, sizeof(WriterState));
    }
    Writer(Writer&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)), pid_(std::exchange(other.pid_, -1)) {}
    Writer& operator=(Writer&&) = delete;

    WriterState& state() const { return *state_; }

  private:
    explicit Writer(WriterState* state) : state_(state) {}
    WriterState* state_;
    pid_t pid_ = -1;
};

struct Drained {
    double seconds = 0;
    double worst_fence_ms = 0;
    double total_seconds = 0;
};

Result<Drained> drain(const cli::ControlClient& control, const std::string& device) {
    const double start = now_s();
    auto accepted = control.post("/v1/pull", {{"devices", {device}}});
    if (!accepted) return accepted.error();
    for (;;) {
        // Looking takes time from the drain itself.
        std::this_thread::sleep_for(std::chrono::milliseconds(25));
        auto status = control.get("/v1/removals/" + device);
        if (!status) return status.error();
        const auto phase = status->value("phase", "");
        if (phase == "safe")
            return Drained{status->value("moving_seconds", 0.0),
                           status->value("worst_fence_ms", 0.0), now_s() - start};
        if (phase == "failed" || phase == "cancelled" || phase == "unproven")
            return base::Error(base::Code::Io,
                               "the pull ended as " + phase + ": " + status->value("reason", ""));
    }
}

// The writer alone maps the file afterwards.
Status fill_pool_file(const std::string& socket) {
    auto session = PoolSession::connect(socket);
    if (!session) return session.error();
    auto file = PoolMapping::create(*session, "/bench", kBytes);
    if (!file) return file.error();
    std::memset(file->address(), 1, kBytes);
    file->keep_file();
    return {};
}

// fallocate + memcpy of a filled file to a new one of the same length.
Result<double> copy_plainly(const PlainMapping& from, const std::string& path) {
    auto to = PlainMapping::create(path, kBytes);
    if (!to) return to.error();
    const double start = now_s();
    if (::fallocate(to->fd(), 0, 0, static_cast<off_t>(kBytes)) != 0)
        return base::sys_error("fallocate");
    std::memcpy(to->address(), from.address(), kBytes);
    return now_s() - start;
}

}  // namespace

int run_drain_writer(const std::vector<std::string>& arguments) {
    if (arguments.size() != 2) return 2;
    void* block = ::mmap(nullptr, sizeof(WriterState), PROT_READ | PROT_WRITE, MAP_SHARED,
                         std::stoi(arguments[1]), 0);
    if (block == MAP_FAILED) return 1;
    auto& state = *static_cast<WriterState*>(block);
    auto session = PoolSession::connect(arguments[0]);
    if (!session) return 1;
    auto mapping = PoolMapping::open(*session, "/bench", kBytes);
    if (!mapping) return 1;
    auto* words = reinterpret_cast<volatile std::uint64_t*>(mapping->address());
    std::uint64_t random = 1;
    state.is_running.store(1);
    double last = now_s();
    while (state.must_stop.load(std::memory_order_relaxed) == 0) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        words[(random >> 24) % (kBytes / 8)] = random;
        const double now = now_s();
        const auto took = static_cast<std::uint64_t>((now - last) * 1e9);
        if (took > state.worst_ns.load(std::memory_order_relaxed))
            state.worst_ns.store(took, std::memory_order_relaxed);
        state.writes.fetch_add(1, std::memory_order_relaxed);
        last = now;
    }
    return 0;
}

Status run_drain(const Options& options) {
    auto daemon =
        cli::LocalDaemon::start({"--create", "bench", "--device", std::string("a=") + kDeviceSize});
    if (!daemon) return daemon.error();
    const cli::ControlClient control(daemon->control_socket());
    RETURN_IF_ERROR(fill_pool_file(daemon->session_socket()));
    auto from_tmpfs = PlainTmpfs::create(kBytes + (128 << 20));
    if (!from_tmpfs) return from_tmpfs.error();
    auto to_tmpfs = PlainTmpfs::create(kBytes + (128 << 20));
    if (!to_tmpfs) return to_tmpfs.error();
    auto plain = PlainMapping::create(from_tmpfs->file("from"), kBytes);
    if (!plain) return plain.error();
    std::memset(plain->address(), 1, kBytes);
    auto writer = Writer::start(daemon->session_socket());
    if (!writer) return writer.error();

    Report report("drain", options);
    report.input("bytes", base::format_size(kBytes));
    report.input("devices", std::string("two of ") + kDeviceSize + ", drained in turn");
    report.input("writer", "one process, 8-byte stores to random places of the whole file");
    std::string device = "a", other = "b";
    std::vector<double> drains, copies, pauses, idle_pauses;
    for (int run = 0; run <= options.runs; ++run) {
        auto added = control.post("/v1/devices", {{"spec", other + "=" + kDeviceSize}});
        if (!added) return added.error();
        auto copied = copy_plainly(*plain, to_tmpfs->file("to"));
        if (!copied) return copied.error();
        writer->state().worst_ns.store(0);
        std::this_thread::sleep_for(std::chrono::milliseconds(150));
        const double idle_ms = static_cast<double>(writer->state().worst_ns.exchange(0)) / 1e6;
        auto drained = drain(control, device);
        if (!drained) return drained.error();
        const double pause_ms = static_cast<double>(writer->state().worst_ns.load()) / 1e6;
        std::swap(device, other);
        if (run == 0) continue;
        drains.push_back(drained->seconds);
        copies.push_back(*copied);
        pauses.push_back(pause_ms);
        idle_pauses.push_back(idle_ms);
        const auto gbps = [](double seconds) {
            return static_cast<double>(kBytes) / seconds / 1e9;
        };
        report.row({{"drain_GBps", gbps(drained->seconds)},
                    {"copy_GBps", gbps(*copied)},
                    {"ratio", *copied / drained->seconds},
                    {"worst_pause_ms", pause_ms},
                    {"worst_pause_without_drain_ms", idle_ms},
                    {"worst_fence_ms", drained->worst_fence_ms},
                    {"whole_pull_s", drained->total_seconds}});
    }
    const double ratio = median(copies) / median(drains);
    report.row({{"median_ratio", ratio},
                {"median_worst_pause_ms", median(pauses)},
                {"median_worst_pause_without_drain_ms", median(idle_pauses)}});
    report.target("ratio 0.7 or better", ratio >= 0.7);
    report.target("worst pause 10 ms or less", median(pauses) <= 10);
    report.finish();
    return {};
}

}  // namespace refault::bench
