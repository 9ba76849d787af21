// One connected client: who it is, its userfaultfd, its two channels. Immutable after the
// handshake, except for flags and counts, which are atomic, and the reason to end it, behind a
// lock; so it may be used from any thread. Owned by shared_ptr: a fence in progress keeps the
// userfaultfd of a client that is just leaving.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "base/cred.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "wire/message.h"

namespace refault::session {

class Session {
  public:
    Session(base::SessionId id, base::Cred cred, base::UniqueFd userfaultfd,
            base::UniqueFd pager_channel, bool handles_kernel_faults);

    base::SessionId id() const noexcept { return id_; }
    const base::Cred& cred() const noexcept { return cred_; }
    const std::string& command() const noexcept { return command_; }
    // "pid 4711 (postgres)": for messages.
    std::string describe() const {
        return "pid " + std::to_string(cred_.pid) + " (" + command_ + ")";
    }
    int userfaultfd() const noexcept { return userfaultfd_.get(); }
    int pager_channel() const noexcept { return pager_channel_.get(); }
    bool handles_kernel_faults() const noexcept { return handles_kernel_faults_; }

    // Tells the pager to fetch. Never waits: at most one unanswered doorbell is in the channel.
    void ring();
    // Sends without waiting. Ok also when the client does not read: it asks again.
    void tell(const wire::PagerMessage& message);
    bool wants_early_notice() const noexcept { return wants_early_notice_.load(); }
    void set_early_notice(bool wants) noexcept { wants_early_notice_.store(wants); }
    // The pager has fetched: the next change rings again.
    void doorbell_answered() noexcept { is_rung_.store(false); }

    // Claims of SIGBUS that have no verdict yet. False, and not counted, when there are `max`.
    bool begin_fault(std::uint32_t max) noexcept;
    void end_fault() noexcept { faults_waiting_.fetch_sub(1); }

    // Ends the session from another thread than its own: its channel says so, and why. The first
    // reason stays.
    void hang_up(const base::Error& reason);
    // The session's thread says by which channel it serves, and takes it back (-1) before it closes
    // it.
    void set_channel(int channel);
    std::optional<base::Error> hung_up_for() const;

  private:
    const base::SessionId id_;
    const base::Cred cred_;
    const std::string command_;
    const base::UniqueFd userfaultfd_;
    const base::UniqueFd pager_channel_;
    const bool handles_kernel_faults_;
    std::atomic<bool> is_rung_{false};
    std::atomic<bool> wants_early_notice_{false};
    std::atomic<std::uint32_t> faults_waiting_{0};
    mutable base::Mutex mutex_;  // a leaf lock
    int channel_ GUARDED_BY(mutex_) = -1;
    std::optional<base::Error> hung_up_for_ GUARDED_BY(mutex_);
};

}  // namespace refault::session
