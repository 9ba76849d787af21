// One connected client: who it is, its userfaultfd, its two channels. Immutable after the
// handshake, except for the doorbell flag, which is atomic; so it may be used from any thread.
// Owned by shared_ptr: a fence in progress keeps the userfaultfd of a client that is just leaving.
#pragma once

#include <atomic>
#include <string>

#include "base/cred.h"
#include "base/ids.h"
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

  private:
    const base::SessionId id_;
    const base::Cred cred_;
    const std::string command_;
    const base::UniqueFd userfaultfd_;
    const base::UniqueFd pager_channel_;
    const bool handles_kernel_faults_;
    std::atomic<bool> is_rung_{false};
    std::atomic<bool> wants_early_notice_{false};
};

}  // namespace refault::session
