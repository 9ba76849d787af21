// A connection to the daemon: the session channel for the program's threads (one request at a time, under a mutex), and
// the thread `refault-pager`, which owns the pager channel and places what the daemon says.
//
// The pager must make progress while any other thread of the program waits in a page fault: it takes no lock that such a
// thread can hold, since the library never touches pool memory under a lock. It uses the program's malloc; a program that
// replaces malloc with one whose own state lies in a pool mapping is not supported.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "base/result.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "client/mapping_table.h"
#include "wire/message.h"

namespace refault::client {

class Session {
  public:
    static Result<std::unique_ptr<Session>> connect(const std::string& socket_path);
    // Unmaps everything, hangs up, joins the pager.
    ~Session();

    // One exchange; the daemon's refusal comes back as an Error. Any thread.
    Result<wire::Reply> request(const wire::Request& request);
    MappingTable& mappings() noexcept { return mappings_; }
    const std::string& pool() const noexcept { return pool_; }
    bool handles_kernel_faults() const noexcept { return handles_kernel_faults_; }

    // The sentence of the last failure, for rf_error_detail. Any thread.
    void note_failure(const std::string& sentence);
    std::string last_failure() const;

  private:
    Session(base::UniqueFd channel, base::UniqueFd pager_channel, base::UniqueFd userfaultfd, bool handles_kernel_faults);
    Status shake_hands(base::UniqueFd daemons_end);
    void run_pager();
    Status serve_pager();

    const base::UniqueFd channel_;
    const base::UniqueFd pager_channel_;
    // Kept open until the end: if the daemon dies, faults in a fenced range wait instead of falling through.
    const base::UniqueFd userfaultfd_;
    const bool handles_kernel_faults_;
    std::string pool_;
    MappingTable mappings_;
    base::Mutex request_mutex_;  // serialises exchanges on channel_
    mutable base::Mutex failure_mutex_;
    std::string last_failure_ GUARDED_BY(failure_mutex_);
    base::NamedThread pager_;
};

}  // namespace refault::client
