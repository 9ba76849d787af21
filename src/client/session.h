// A connection to the daemon: the session channel for the program's threads, one request at a time,
// and the pager beside it. Thread-safe, but destroyed by one thread when no other uses it.
//
// The session channel's mutex is held while the daemon thinks, and never while pool memory is
// touched; the pager does not take it. A child process after fork has the object and the channels,
// but no pager: it can use none of it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "client/fault_line.h"
#include "client/mapping_table.h"
#include "client/notice_box.h"
#include "client/pager.h"
#include "client/sigbus.h"
#include "wire/message.h"

namespace refault::client {

class Session {
  public:
    static Result<std::unique_ptr<Session>> connect(const std::string& socket_path);
    // Joins the pager, unmaps everything, hangs up. Only where is_in_its_process().
    ~Session();

    // One exchange; the daemon's refusal comes back as an Error. Gone, with the reason, when the
    // session has ended.
    Result<wire::Reply> request(const wire::Request& request);

    struct Mapped {
        std::uint64_t address = 0;
        MappingId id;
        std::shared_ptr<Mirrors> mirrors;  // of a writable mapping
    };
    // Returns when all of it has been placed; `map.address` is filled in. Nothing stays mapped on
    // failure.
    Result<Mapped> map(wire::Map map);
    NoticeBox& notices() noexcept { return notices_; }
    // Unmaps whatever the daemon says, and returns that.
    Status unmap(const Mapped& mapped);

    const std::string& pool() const noexcept { return pool_; }
    bool handles_kernel_faults() const noexcept { return handles_kernel_faults_; }
    // False in a child that has inherited the object: the mappings and the pager are its parent's.
    bool is_in_its_process() const noexcept;

    // The sentence of the last failure, for rf_error_detail.
    void note_failure(const std::string& sentence);
    std::string last_failure() const;

  private:
    Session(base::UniqueFd channel, base::UniqueFd userfaultfd, bool handles_kernel_faults,
            int pager_channel);
    Status shake_hands(const base::UniqueFd& daemons_end);
    Result<wire::Reply> exchange(std::span<const std::uint8_t> message);

    const pid_t process_;
    const base::UniqueFd channel_;
    // Kept open until the end: if the daemon dies, faults in a fenced range wait instead of falling
    // through.
    const base::UniqueFd userfaultfd_;
    const bool handles_kernel_faults_;
    std::string pool_;  // fixed after the handshake
    MappingTable mappings_;
    FaultLine line_;
    NoticeBox notices_;
    base::Mutex exchange_mutex_;  // a request and its reply on channel_
    bool is_out_of_step_ GUARDED_BY(exchange_mutex_) = false;
    mutable base::Mutex failure_mutex_;
    std::string last_failure_ GUARDED_BY(failure_mutex_);
    std::unique_ptr<SigbusEntry> sigbus_;
    std::unique_ptr<Pager> pager_;
};

}  // namespace refault::client
