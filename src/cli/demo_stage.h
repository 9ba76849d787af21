// Where the demo plays: its daemon, its client processes, the block that they share. All acts use
// the same daemon; the clients end before the third. Everything that it starts ends with it.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/control_client.h"
#include "cli/demo.h"
#include "cli/demo_report.h"
#include "cli/demo_state.h"
#include "cli/local_daemon.h"

namespace refault::cli {

class DemoStage {
  public:
    DemoStage(const DemoOptions& options, DemoReport& report)
        : options_(options), report_(report) {}
    ~DemoStage();
    DemoStage(const DemoStage&) = delete;
    DemoStage& operator=(const DemoStage&) = delete;

    base::Status start();
    // The clients verify every record, while the pool is as it is.
    base::Status survey();
    base::Status run_for(double seconds, const char* what);
    // Waits until `is_true` for every client; fails when one of them ends or reports an error
    // first.
    base::Status wait_for_clients(const std::function<bool(const DemoClientState&)>& is_true);
    // Polls the control API until `is_done` likes the answer; gives that answer.
    base::Result<Json> wait_for_answer(const std::string& target, double limit_s,
                                       const std::function<bool(const Json&)>& is_done);
    // The clients verify every record for the last time and end.
    base::Status end_clients();
    base::Status stop_pool();
    // Gone without having been asked to go.
    bool has_lost_daemon() const;

    // Valid from start() on.
    const ControlClient& control() const { return *control_; }
    DemoState& shared() { return *shared_; }
    DemoReport& report() { return report_; }
    const DemoOptions& options() const { return options_; }
    const std::string& run_dir() const { return daemon_->run_dir(); }
    pid_t pid(std::size_t client) const { return pids_[client]; }
    static std::string file_of(std::size_t client) { return "/file" + std::to_string(client); }
    std::uint64_t file_bytes() const;

    // The program was told to end.
    static base::Status check_interrupt();
    static void catch_interrupts();

  private:
    base::Status start_pool();
    base::Status start_clients();
    base::Error ended_early(std::size_t client) const;
    bool has_ended(std::size_t client);

    const DemoOptions options_;
    DemoReport& report_;
    std::optional<LocalDaemon> daemon_;
    std::optional<ControlClient> control_;
    DemoState* shared_ = nullptr;
    std::vector<pid_t> pids_;  // -1: has ended
};

}  // namespace refault::cli
