// The session socket: accepts clients, shakes hands, serves their requests, answers their pagers.
//
// Threads: "sessions" accepts; "session-N" serves one client's requests; "pagers" answers all pager
// channels (epoll) and never waits for anything but short locks. A client is gone when its channel
// closes or its process ends.
#pragma once

#include <chrono>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "base/event.h"
#include "base/result.h"
#include "base/thread.h"
#include "session/fault_desk.h"
#include "session/file_service.h"
#include "session/limits.h"
#include "session/refusals.h"
#include "session/registry.h"
#include "session/request_gate.h"
#include "session/ticket.h"
#include "store/store.h"
#include "sys/socket.h"

namespace refault::session {

class PagerLoop;
struct ConnectionContext;

struct ServerOptions {
    std::string socket_path;
    std::uint32_t socket_mode =
        0666;  // who may connect; what a client may open is checked file by file
    Limits limits;
    // Where refusals are counted; without one, in a place that nobody asks.
    std::shared_ptr<Refusals> refusals;
    // What tickets are signed with; without one, with a key that no later daemon knows.
    std::optional<TicketKey> ticket_key;
    // The socket of the daemon before, which clients wait at already; the server owns it from its
    // start. -1: it makes one.
    int inherited_listener = -1;
};

class Server {
  public:
    Server(store::Store& store, Registry& registry, FileService& files, FaultDesk& faults,
           base::EventSink& events, ServerOptions options);
    // Listens and starts the threads; the socket is there on return.
    Status start();
    // For a daemon that is about to be replaced: no request is begun any more. False when some are
    // under way still at the deadline; they go on, and so does holding back.
    bool hold_requests(std::chrono::steady_clock::time_point deadline) {
        return gate_.hold(deadline);
    }
    // They go on.
    void release_requests() { gate_.open(); }
    // Another descriptor of the socket where clients connect.
    Result<base::UniqueFd> duplicate_listener() const;
    // Closes the socket and all sessions, joins. Clients keep what they have mapped.
    ~Server();

  private:
    struct Running;
    void accept_loop();
    void accept_one();
    // Logs and tells, unless that was done too often lately.
    void refuse(std::string_view reason, const std::string& text);
    // Why this user's client is not served; empty when it is.
    struct Refusal {
        std::string_view reason;
        std::string text;
    };
    std::optional<Refusal> refusal_for(uid_t uid) const;
    void reap(bool all);

    store::Store& store_;
    Registry& registry_;
    FileService& files_;
    FaultDesk& faults_;
    base::EventSink& events_;
    const ServerOptions options_;
    RequestGate gate_;
    sys::SpareDescriptor spare_;
    base::UniqueFd listener_;
    base::UniqueFd stop_event_;  // stays readable once the server ends
    base::UniqueFd reap_event_;  // a connection has ended
    std::unique_ptr<PagerLoop> pagers_;
    std::unique_ptr<Tickets> tickets_;
    std::unique_ptr<ConnectionContext> context_;
    // Touched by the accept thread alone, and by the destructor after it.
    std::list<Running> running_;
    std::uint64_t next_session_ = 1;
    base::NamedThread accept_thread_;
};

}  // namespace refault::session
