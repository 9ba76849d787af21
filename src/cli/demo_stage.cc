// Starting, watching and ending the demo's processes.
#include "cli/demo_stage.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/range.h"
#include "base/units.h"

namespace refault::cli {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr double kClientsLimitS = 120;
constexpr int kDevices = 4;

// Set by a handler, read by any thread.
std::atomic<bool> g_is_interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler stores into it");
void on_interrupt(int) {
    g_is_interrupted.store(true);
}

}  // namespace

void DemoStage::catch_interrupts() {
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    for (const int signal_no : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal_no, &action, nullptr);
}

Status DemoStage::check_interrupt() {
    if (g_is_interrupted.load()) return Error(Code::Cancelled, "interrupted");
    return {};
}

DemoStage::~DemoStage() {
    for (const pid_t pid : pids_) {
        if (pid <= 0) continue;
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
    if (shared_ != nullptr) ::munmap(shared_, sizeof(DemoState));
}

// Two devices go in the course of the demo. Of three files two copies are made, each on a device of
// its own, so that in the end both of those that are left hold at least three of the seven, and at
// most four: that is 7/8 of a device, and its share of the metadata fits beside it.
std::uint64_t DemoStage::file_bytes() const {
    return base::align_down(options_.device_bytes * 7 / 32, base::kHugePageBytes);
}

Status DemoStage::start() {
    RETURN_IF_ERROR(start_pool());
    return start_clients();
}

Status DemoStage::start_pool() {
    if (file_bytes() == 0)
        return Error(Code::Invalid, "the devices are too small: give --device-size 16M or more");
    std::vector<std::string> arguments{"--create", "demo"};
    for (int i = 0; i < kDevices; ++i) {
        arguments.emplace_back("--device");
        arguments.push_back("dimm" + std::to_string(i) +
                            "=ram:" + std::to_string(options_.device_bytes));
    }
    auto daemon = LocalDaemon::start(arguments);
    if (!daemon) return daemon.error();
    daemon_.emplace(std::move(*daemon));
    control_.emplace(daemon_->control_socket());
    report_.step("pool of " + std::to_string(kDevices) + " x " +
                 base::format_size(options_.device_bytes) + " is up");
    return {};
}

Status DemoStage::start_clients() {
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
            {"demo-client", daemon_->session_socket(), file_of(i), std::to_string(file_bytes()),
             std::to_string(memory.get()), std::to_string(i)},
            {memory.get()});
        if (!pid) return pid.error();
        pids_.push_back(*pid);
    }
    RETURN_IF_ERROR(wait_for_clients(
        [](const DemoClientState& client) { return client.is_running.load() != 0; }));
    report_.step("4 processes have mapped " + base::format_size(file_bytes()) +
                 " each and filled them with records");
    return {};
}

Status DemoStage::wait_for_clients(const std::function<bool(const DemoClientState&)>& is_true) {
    const auto deadline = steady_clock::now() + duration<double>(kClientsLimitS);
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
        std::this_thread::sleep_for(milliseconds(2));
    }
}

Result<Json> DemoStage::wait_for_answer(const std::string& target, double limit_s,
                                        const std::function<bool(const Json&)>& is_done) {
    const auto deadline = steady_clock::now() + duration<double>(limit_s);
    for (;;) {
        RETURN_IF_ERROR(check_interrupt());
        auto answer = control_->get(target);
        if (!answer || is_done(*answer)) return answer;
        if (steady_clock::now() > deadline)
            return Error(Code::TimedOut,
                         "GET " + target + " did not get there in time: " + answer->dump());
        std::this_thread::sleep_for(milliseconds(2));
    }
}

Error DemoStage::ended_early(std::size_t i) const {
    const int status = report_.exits[i];
    return Error(Code::Gone,
                 "client " + std::to_string(i) + " ended too early, " +
                     (WIFSIGNALED(status) ? "by signal " + std::to_string(WTERMSIG(status))
                                          : "with status " + std::to_string(WEXITSTATUS(status))) +
                     (shared_->clients[i].signals.load() != 0
                          ? ", after a signal of its memory that nothing explains"
                          : ""));
}

bool DemoStage::has_ended(std::size_t i) {
    int status = 0;
    if (pids_[i] <= 0 || ::waitpid(pids_[i], &status, WNOHANG) != pids_[i]) return false;
    report_.exits[i] = status;
    pids_[i] = -1;
    return true;
}

Status DemoStage::run_for(double seconds, const char* what) {
    const auto end = steady_clock::now() + duration<double>(seconds);
    while (steady_clock::now() < end) {
        RETURN_IF_ERROR(check_interrupt());
        for (std::size_t i = 0; i < pids_.size(); ++i)
            if (has_ended(i)) return ended_early(i);
        std::this_thread::sleep_for(milliseconds(5));
    }
    report_.step(std::string(what) + " for " + std::to_string(seconds).substr(0, 3) + " s");
    return {};
}

Status DemoStage::survey() {
    const auto wanted = shared_->surveys_wanted.load() + 1;
    shared_->surveys_wanted.store(wanted);
    return wait_for_clients(
        [wanted](const DemoClientState& client) { return client.surveys_done.load() == wanted; });
}

Status DemoStage::end_clients() {
    shared_->must_stop.store(1);
    RETURN_IF_ERROR(wait_for_clients(
        [](const DemoClientState& client) { return client.has_finished.load() != 0; }));
    for (std::size_t i = 0; i < pids_.size(); ++i) {
        if (pids_[i] > 0) {
            int status = 0;
            while (::waitpid(pids_[i], &status, 0) < 0 && errno == EINTR) {
            }
            report_.exits[i] = status;
            pids_[i] = -1;
        }
        report_.add_end(i, shared_->clients[i], file_bytes() / kRecordBytes);
    }
    report_.step("every process has verified every record once more and ended");
    return {};
}

bool DemoStage::has_lost_daemon() const {
    siginfo_t info{};
    return daemon_ && daemon_->pid() > 0 &&
           ::waitid(P_PID, static_cast<id_t>(daemon_->pid()), &info, WEXITED | WNOHANG | WNOWAIT) ==
               0 &&
           info.si_pid != 0;
}

Status DemoStage::stop_pool() {
    control_.reset();
    return daemon_->stop();
}

}  // namespace refault::cli
