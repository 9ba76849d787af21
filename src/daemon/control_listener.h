// Takes connections for the control API: on its unix socket and, where wished, by TCP. It knows who
// has connected and how many connections he has, nothing of HTTP.
//
//   "control" accepts, counts, queues  -->  "control-N" serve one connection each, one after
//   another
//
// What is too much is answered with a line and closed at once, so that neither the queue nor the
// table of descriptors fills, and half of the workers are kept for who may change things. The
// object is used by one thread; `serve` is called by the workers.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cred.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "session/refusals.h"
#include "sys/socket.h"

namespace refault::daemon {

struct ControlLimits {
    std::uint32_t connections = 256;          // served and waiting
    std::uint32_t connections_per_user = 64;  // of users who may only look, and of all by TCP
    std::uint32_t followers = 32;             // of events; each keeps a worker
    std::uint32_t request_timeout_ms = 2000;  // for a request to be whole, its file's bytes aside
    std::uint32_t answer_timeout_ms = 5000;   // for the client to take the next part of its answer
};

struct ControlPeer {
    bool is_tcp = false;
    base::Cred cred;  // of a unix socket's
    // May change things, by his user: such a one is not held to the limit of a user.
    bool is_privileged = false;
};

class ControlListener {
  public:
    static constexpr std::size_t kWorkers = 64;
    using Serve = std::function<void(base::UniqueFd, const ControlPeer&)>;
    using IsPrivileged = std::function<bool(const base::Cred&)>;

    ControlListener(const ControlLimits& limits, std::shared_ptr<session::Refusals> refusals,
                    IsPrivileged is_privileged, Serve serve);
    // Both listen already; `tcp` may be none.
    base::Status start(base::UniqueFd local, base::UniqueFd tcp);
    // Ends what waits, lets what is served end.
    ~ControlListener();

  private:
    struct Connection {
        base::UniqueFd socket;
        ControlPeer peer;
        std::uint64_t user = 0;  // the key of its count
    };
    void accept_loop();
    void accept_from(int listener, bool is_tcp);
    void turn_away(const base::UniqueFd& socket, const char* reason, const std::string& text);
    void work();

    const ControlLimits limits_;
    const std::shared_ptr<session::Refusals> refusals_;
    const IsPrivileged is_privileged_;
    const Serve serve_;
    sys::SpareDescriptor spare_;
    base::UniqueFd local_, tcp_, stop_event_;
    base::Mutex mutex_;  // a leaf lock
    base::CondVar changed_;
    std::deque<Connection> waiting_ GUARDED_BY(mutex_);
    std::uint32_t connections_ GUARDED_BY(mutex_) = 0;
    std::map<std::uint64_t, std::uint32_t> by_user_ GUARDED_BY(mutex_);
    std::uint32_t unprivileged_ GUARDED_BY(mutex_) = 0;
    bool is_ending_ GUARDED_BY(mutex_) = false;
    std::vector<base::NamedThread> workers_;
    base::NamedThread accept_thread_;
};

// The unix socket, of that mode and group, in the place of one that nobody listens at any more.
// Busy when another daemon does.
base::Result<base::UniqueFd> listen_local(const std::string& path, std::uint32_t mode,
                                          std::optional<gid_t> group);

// An address to listen at, "ADDRESS:PORT" or "[ADDRESS]:PORT", in numbers; not yet listening. Says
// whether only this machine reaches it.
struct TcpListener {
    base::UniqueFd socket;
    std::string address;
    bool is_loopback = false;
};
base::Result<TcpListener> listen_tcp(const std::string& address);

}  // namespace refault::daemon
