// One device on its way out: the state of a planned removal and the thread that carries it through.
// All members marked so are guarded by the service's mutex_, which the thread drops for every step
// that takes time.
#pragma once

#include <deque>

#include "base/thread.h"
#include "failure/mover.h"
#include "failure/removal.h"

namespace refault::failure {

class RemovalService::Removal {
  public:
    Removal(RemovalService& service, ManagedDevice device, RemovalOptions options,
            std::vector<store::Move> moves);
    // Asks it to stop and joins.
    ~Removal();

    void start();
    void request_cancel_locked();
    bool is_running_locked() const { return !is_ended(status_.phase); }
    const RemovalStatus& status_locked() const { return status_; }
    base::DeviceId device_id() const { return device_.id; }

    // Another device starts to leave: finds new places for the moves that would go there. NoSpace
    // when there are none.
    Status replan_locked();
    // Puts the device back in service and ends. From start_all, before the thread runs.
    void give_up_locked(RemovalPhase phase, std::string reason);

  private:
    void run();
    Status move_metadata();
    Status move_data();
    // What to move next, up to one batch; waits for the rate. Empty when nothing is pending.
    std::vector<store::Move> next_batch();
    Status finish_batch(Result<MoveOutcome> outcome, std::uint64_t batch_bytes,
                        std::size_t batch_moves);
    void wait_for_pagers();
    Status prove_and_finish();
    bool are_clients_read(const ProofReport& report) const;
    Status conclude(const ProofReport& report);
    void set_phase(RemovalPhase phase);
    void end(const base::Error& error);
    // Cancelled or TimedOut when the removal is to stop.
    Status check_stop();
    Status check_stop_locked();
    std::chrono::steady_clock::time_point data_deadline_locked() const;
    // Sleeps until `until`, or less when the removal is to stop.
    void pause(std::chrono::steady_clock::time_point until);
    void publish(const char* kind,
                 std::vector<std::pair<std::string, base::EventValue>> fields = {});

    RemovalService& service_;
    ManagedDevice device_;  // `device` is dropped by the thread when it ends
    const RemovalOptions options_;
    const std::string name_;
    std::uint64_t record_ = 0;  // in the book; the thread's own
    const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();

    // Guarded by service_.mutex_:
    RemovalStatus status_;
    std::deque<store::Move> pending_;
    bool cancel_requested_ = false;
    bool data_has_moved_ = false;

    // The thread's own:
    std::chrono::steady_clock::time_point
        silent_since_{};  // since when nothing but silent pagers is left
    double rate_credit_bytes_ = 0;
    std::chrono::steady_clock::time_point rate_checked_{};
    base::NamedThread thread_;
};

}  // namespace refault::failure
