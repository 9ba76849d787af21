// A connection to the daemon: the session channel for the program's threads, one request at a time,
// and the pager beside it. Thread-safe, but destroyed by one thread when no other uses it.
//
// A daemon that is gone is waited for (session_return.cc): the pager connects to the next one,
// which is shown what the session had open and mapped, and is put in the place of the old one.
// Requests wait meanwhile, and fail while it is abandoned.
//
//   up --the daemon hangs up--> away ------------another one has taken the session--> up
//                                    --patience is over--> abandoned --the same--> up
//      --the program disconnects, or a daemon that is there still has dropped it--> ended
//
// The session channel's mutex is held while the daemon thinks, and never while pool memory is
// touched; the pager takes it only when no daemon is there. A child process after fork has the
// object and the channels, but no pager: it can use none of it.
//
// Locks: exchange_mutex_ > the mapping table's, link_mutex_.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <map>
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
    // In a child of the process that made `inherited`, which is good for nothing afterwards, but
    // must not be destroyed: its threads are not there. On failure nothing is mapped.
    static Result<std::unique_ptr<Session>> of_child(Session& inherited);
    // The copies of the mapping there; nullptr when it is read-only.
    std::shared_ptr<Mirrors> mirrors(std::uint64_t address) const {
        return mappings_.mirrors(address);
    }
    // Joins the pager, unmaps everything, hangs up. Only where is_in_its_process().
    ~Session();

    // One exchange; the daemon's refusal comes back as an Error. Gone, with the reason, when the
    // session has ended; Io (ECONNRESET) when a daemon ended while it did something that cannot
    // simply be asked for twice.
    Result<wire::Reply> request(const wire::Request& request);
    // The same for what depends on the daemon that is asked: `make` gives the request when its turn
    // has come, `take` what follows from the answer before another daemon could be told otherwise.
    using Make = std::function<wire::Request()>;
    using Take = std::function<Status(const wire::Reply&)>;
    Result<wire::Reply> request(const Make& make, const Take& take);
    // How long a daemon that is gone is waited for; negative: for ever.
    void set_patience(std::chrono::milliseconds patience);
    // What a touch of memory that is shut does when that time is over and no daemon has come.
    enum class WhenAbandoned { Wait, Sigbus };
    void set_when_abandoned(WhenAbandoned choice);

    struct Mapped {
        std::uint64_t address = 0;
        std::shared_ptr<Mirrors> mirrors;  // of a writable mapping
    };
    // Returns when all of it has been placed; `map.address` is filled in. Nothing stays mapped on
    // failure.
    Result<Mapped> map(wire::Map map);
    Status accept(const Mapped& mapped, std::uint64_t offset, std::uint64_t length);
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
    // Both ends of a channel to a daemon that knows the session.
    struct Channels {
        base::UniqueFd session;
        base::UniqueFd pager;
    };

    static Error daemon_gone();
    Session(std::string socket_path, Channels channels, base::UniqueFd userfaultfd,
            bool handles_kernel_faults);
    static Result<Channels> shake_hands(const std::string& socket_path, int userfaultfd,
                                        const wire::Hello& hello, std::string& pool);
    static Result<Channels> say_hello(const std::string& socket_path, int userfaultfd,
                                      const wire::Hello& hello, std::string& pool);
    // `was_sent`: a daemon may have done it, whatever comes back.
    Result<wire::Reply> exchange(const Make& make, const Take& take, bool& was_sent);
    // Until another daemon than the last one asked is there; false when the session has ended or is
    // abandoned.
    bool wait_for_return(std::uint64_t daemon);
    // Without a daemon, while the session is abandoned: the next one is not told of it. False when
    // one is there, or may come yet.
    bool take_back_alone(const wire::Request& request, const Take& take);
    void note_open(const wire::Request& request, const wire::Reply& reply)
        REQUIRES(exchange_mutex_);

    // The pager's, when the daemon has hung up.
    bool come_back();
    Status try_to_come_back();
    Status take_up(const base::UniqueFd& channel) REQUIRES(exchange_mutex_);
    Status inherit(Session& inherited);
    void forget_parent();
    void end_link();
    // Until the next try; false when patience is over, or the program disconnects.
    bool wait_patiently(std::chrono::steady_clock::time_point since,
                        std::chrono::steady_clock::time_point until);
    void give_up();
    // Waits, or refuses a touch, `until` then at the latest; false when the program disconnects.
    bool stay_abandoned(std::chrono::steady_clock::time_point until, bool& has_woken);
    // For good.
    void sit_abandoned();
    void refuse_touches();

    const std::string socket_path_;
    const pid_t process_;
    // Its number stays the same when the daemon changes.
    const base::UniqueFd channel_;
    // Kept open until the end: if the daemon dies, faults in a fenced range wait instead of falling
    // through.
    const base::UniqueFd userfaultfd_;
    const bool handles_kernel_faults_;
    std::string pool_;  // fixed after the handshake
    MappingTable mappings_;
    FaultLine line_;
    NoticeBox notices_;
    base::Mutex exchange_mutex_{
        base::LockRank::ClientExchange};  // a request and its reply on channel_
    bool is_out_of_step_ GUARDED_BY(exchange_mutex_) = false;
    std::map<std::uint32_t, std::string> tickets_ GUARDED_BY(exchange_mutex_);  // by handle
    base::Mutex link_mutex_;
    base::CondVar link_changed_;
    std::uint64_t daemon_ GUARDED_BY(link_mutex_) = 0;  // counts those that had the session
    bool has_ended_ GUARDED_BY(link_mutex_) = false;
    bool is_disconnecting_ GUARDED_BY(link_mutex_) = false;
    std::chrono::milliseconds patience_ GUARDED_BY(link_mutex_);
    WhenAbandoned when_abandoned_ GUARDED_BY(link_mutex_) = WhenAbandoned::Wait;
    const int pager_channel_;  // the pager's descriptor
    mutable base::Mutex failure_mutex_;
    std::string last_failure_ GUARDED_BY(failure_mutex_);
    bool is_orphaned_ = false;            // a child has taken what it needs from it
    const Session* inherited_ = nullptr;  // kept where leak checkers find it
    std::unique_ptr<SigbusEntry> sigbus_;
    std::unique_ptr<Pager> pager_;
};

}  // namespace refault::client
