// The demo's parent: starts, pulls, verifies, reports.
#include "cli/demo.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/range.h"
#include "base/units.h"
#include "cli/control_client.h"
#include "cli/demo_report.h"
#include "cli/demo_state.h"
#include "cli/local_daemon.h"

namespace refault::cli {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using std::chrono::duration;
using std::chrono::steady_clock;

namespace {

constexpr double kStartLimitS = 60;
constexpr double kProofLimitS = 30;
constexpr const char* kPulled = "dimm1";

volatile sig_atomic_t g_is_interrupted = 0;
void on_interrupt(int) {
    g_is_interrupted = 1;
}

// One run of the demo. Everything it starts ends with it.
class Demo {
  public:
    explicit Demo(const DemoOptions& options) : options_(options), report_(options.json) {}

    ~Demo() {
        for (const pid_t pid : pids_) {
            if (pid <= 0) continue;
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
        }
        if (shared_ != nullptr) ::munmap(shared_, sizeof(DemoState));
    }

    int run() {
        Status done = start_pool();
        if (done) done = start_clients();
        if (done) done = run_for(options_.seconds, "clients run");
        if (done) done = pull();
        if (done) done = run_for(options_.seconds, "clients go on");
        if (done) done = finish_clients();
        if (done) done = stop_daemon();
        if (!done) report_.fail(done.error().message());
        return report_.finish();
    }

  private:
    Status check_interrupt() const {
        if (g_is_interrupted != 0) return Error(Code::Cancelled, "interrupted");
        return {};
    }

    Status start_pool() {
        const std::string size = std::to_string(options_.device_bytes);
        auto daemon = LocalDaemon::start({"--create", "demo", "--device", "dimm0=ram:" + size,
                                          "--device", std::string(kPulled) + "=ram:" + size,
                                          "--device", "dimm2=ram:" + size});
        if (!daemon) return daemon.error();
        daemon_.emplace(std::move(*daemon));
        control_.emplace(daemon_->control_socket());
        report_.step("pool of 3 x " + base::format_size(options_.device_bytes) + " is up");
        return {};
    }

    // Half of the pool is used: what stays can hold what leaves.
    std::uint64_t file_bytes() const {
        return base::align_down(options_.device_bytes * 3 / 2 / kDemoClients, base::kHugePageBytes);
    }

    Status start_clients() {
        base::UniqueFd memory(::memfd_create("refault-demo", MFD_CLOEXEC));
        if (!memory || ::ftruncate(memory.get(), sizeof(DemoState)) != 0)
            return base::sys_error("memfd_create");
        void* block =
            ::mmap(nullptr, sizeof(DemoState), PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
        if (block == MAP_FAILED) return base::sys_error("mmap");
        shared_ = new (block) DemoState;
        for (std::size_t i = 0; i < kDemoClients; ++i) {
            auto pid = start_program(
                program_directory() + "/refault",
                {"demo-client", daemon_->session_socket(), "/file" + std::to_string(i),
                 std::to_string(file_bytes()), std::to_string(memory.get()), std::to_string(i)},
                {memory.get()});
            if (!pid) return pid.error();
            pids_.push_back(*pid);
        }
        RETURN_IF_ERROR(wait_until(kStartLimitS, [](const DemoClientState& client) {
            return client.is_running.load() != 0;
        }));
        report_.step("4 processes have mapped " + base::format_size(file_bytes()) +
                     " each and filled them with records");
        return {};
    }

    // Waits until `is_true` for every client; fails when one of them ends or reports an error
    // first.
    template <typename Predicate>
    Status wait_until(double limit_s, Predicate is_true) {
        const auto deadline = steady_clock::now() + duration<double>(limit_s);
        for (;;) {
            RETURN_IF_ERROR(check_interrupt());
            bool all = true;
            for (std::size_t i = 0; i < pids_.size(); ++i) {
                const auto& client = shared_->clients[i];
                if (client.error.load() != 0)
                    return base::sys_error("client " + std::to_string(i), -client.error.load());
                if (is_true(client)) continue;
                all = false;
                if (!report_.exits.contains(i) && has_ended(i)) return ended_early(i);
            }
            if (all) return {};
            if (steady_clock::now() > deadline)
                return Error(Code::TimedOut, "the clients did not get ready in time");
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
    }

    Error ended_early(std::size_t i) {
        const int status = report_.exits[i];
        return Error(
            Code::Gone,
            "client " + std::to_string(i) + " ended too early, " +
                (WIFSIGNALED(status) ? "by signal " + std::to_string(WTERMSIG(status))
                                     : "with status " + std::to_string(WEXITSTATUS(status))) +
                (shared_->clients[i].signals.load() != 0 ? ", after a signal of its memory" : ""));
    }

    bool has_ended(std::size_t i) {
        int status = 0;
        if (pids_[i] <= 0 || ::waitpid(pids_[i], &status, WNOHANG) != pids_[i]) return false;
        report_.exits[i] = status;
        pids_[i] = -1;
        return true;
    }

    Status run_for(double seconds, const char* what) {
        const auto end = steady_clock::now() + duration<double>(seconds);
        while (steady_clock::now() < end) {
            RETURN_IF_ERROR(check_interrupt());
            for (std::size_t i = 0; i < pids_.size(); ++i)
                if (has_ended(i)) return ended_early(i);
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        report_.step(std::string(what) + " for " + std::to_string(seconds).substr(0, 3) + " s");
        return {};
    }

    Status pull() {
        shared_->is_pulling.store(1);
        auto plan = control_->post("/v1/pull", Json{{"devices", {kPulled}}, {"dry_run", true}});
        if (!plan) return plan.error();
        report_.step("plan: move " +
                     base::format_size(plan->value("bytes_to_move", std::uint64_t{0})) + " off " +
                     kPulled + ", room for " +
                     base::format_size(plan->value("free_bytes_elsewhere", std::uint64_t{0})));
        const auto start = steady_clock::now();
        auto accepted = control_->post("/v1/pull", Json{{"devices", {kPulled}}});
        if (!accepted) return accepted.error();
        report_.step(std::string("pull ") + kPulled + ": indicator blinks");
        std::string phase;
        std::uint64_t shown_percent = 0;
        for (;;) {
            RETURN_IF_ERROR(check_interrupt());
            auto status = control_->get(std::string("/v1/removals/") + kPulled);
            if (!status) return status.error();
            phase = status->value("phase", "");
            const auto total = status->value("bytes_total", std::uint64_t{0});
            const auto percent =
                total == 0 ? 100 : status->value("bytes_done", std::uint64_t{0}) * 100 / total;
            if (phase == "moving-data" && percent >= shown_percent + 25) {
                shown_percent = percent - percent % 25;
                report_.step("moved " + std::to_string(shown_percent) + " %");
            }
            const auto waited = duration<double>(steady_clock::now() - start).count();
            if (phase == "safe" || phase == "cancelled" || phase == "failed" ||
                (phase == "unproven" && (lacks_rights_alone(*status) || waited > kProofLimitS))) {
                report_.removal = *status;
                break;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        report_.pull_seconds = duration<double>(steady_clock::now() - start).count();
        shared_->is_pulling.store(0);
        if (phase == "unproven" && lacks_rights_alone(report_.removal)) return check_amber();
        if (phase != "safe")
            return Error(Code::Io, std::string(kPulled) + " is not safe to pull: " + phase + ": " +
                                       report_.removal.value("reason", ""));
        report_.step("proven: no process maps or holds a segment of " + std::string(kPulled));
        return check_indicator();
    }

    // An ordinary user's daemon cannot look into other users' processes, and says so.
    static bool lacks_rights_alone(const Json& removal) {
        if (::geteuid() == 0 || !removal.contains("proof")) return false;
        const auto& proof = removal["proof"];
        return proof["holders"].empty() && !proof["unreadable_pids"].empty() &&
               proof.value("hidden_inodes", 0) == 0 && proof.value("pinned_pages", 0) == 0;
    }

    Status check_amber() {
        const auto& proof = report_.removal["proof"];
        report_.step("nobody holds " + std::string(kPulled) + " among the " +
                     std::to_string(proof.value("processes_read", 0)) +
                     " processes that could be "
                     "read");
        RETURN_IF_ERROR(read_indicator());
        if (report_.power == "off")
            return Error(Code::Io, "the power indicator is off without a proof");
        report_.step("indicator stays amber: " + std::to_string(proof["unreadable_pids"].size()) +
                     " processes of other users could not be read; as root this ends in safe");
        return {};
    }

    Status read_indicator() {
        auto device = control_->get(std::string("/v1/devices/") + kPulled);
        if (!device) return device.error();
        report_.power = device->contains("slot") ? (*device)["slot"].value("power", "?") : "?";
        return {};
    }

    Status check_indicator() {
        RETURN_IF_ERROR(read_indicator());
        if (report_.power != "off")
            return Error(Code::Io, "the power indicator is " + report_.power + ", not off");
        report_.step(std::string("power indicator off: ") + kPulled + " is safe to pull");
        return {};
    }

    Status finish_clients() {
        shared_->must_stop.store(1);
        RETURN_IF_ERROR(wait_until(kStartLimitS, [](const DemoClientState& client) {
            return client.has_finished.load() != 0;
        }));
        for (std::size_t i = 0; i < pids_.size(); ++i) {
            if (pids_[i] > 0) {
                int status = 0;
                while (::waitpid(pids_[i], &status, 0) < 0 && errno == EINTR) {
                }
                report_.exits[i] = status;
                pids_[i] = -1;
            }
            report_.add_client(i, shared_->clients[i], file_bytes() / kRecordBytes);
        }
        report_.step("every process has verified every record");
        return {};
    }

    Status stop_daemon() {
        control_.reset();
        return daemon_->stop();
    }

    const DemoOptions options_;
    DemoReport report_;
    std::optional<LocalDaemon> daemon_;
    std::optional<ControlClient> control_;
    DemoState* shared_ = nullptr;
    std::vector<pid_t> pids_;
};

}  // namespace

int run_demo(const DemoOptions& options) {
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    for (const int signal_no : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal_no, &action, nullptr);
    return Demo(options).run();
}

}  // namespace refault::cli
