// Answers the pagers of all sessions, and lets the stores go on that are tracked: one thread,
// "pagers". It waits for nothing but short locks, so no client can hold up another: it takes no
// descriptors either, whose closing could wait (a socket that lingers, a file of a FUSE mount). A
// pager that breaks the protocol or a limit loses its session: its process keeps what it has
// mapped, and whatever moves from then on stays out of its reach.
#pragma once

#include <memory>
#include <set>
#include <unordered_map>

#include "base/mutex.h"
#include "base/result.h"
#include "base/thread.h"
#include "session/fault_desk.h"
#include "session/limits.h"
#include "session/registry.h"

namespace refault::session {

class PagerLoop {
  public:
    PagerLoop(Registry& registry, FaultDesk& faults, const Limits& limits)
        : registry_(registry), faults_(faults), limits_(limits) {}
    Status start();
    ~PagerLoop();

    void watch(std::shared_ptr<Session> session);
    void forget(SessionId session);

  private:
    void run();
    // Stores into what is known to be equal on all copies.
    void note_stores(SessionId id);
    std::shared_ptr<Session> find(SessionId id);
    // One message of the pager, of which no descriptor was taken in.
    Result<std::vector<std::uint8_t>> receive(const Session& session) const;
    // has_ended: the channel reports an error or that it hung up.
    void answer(SessionId id, bool has_ended);
    // Ok also when nothing could be sent now and the session is to be tried again.
    Status answer_fetch(const std::shared_ptr<Session>& session, std::uint64_t placed);
    void retry();

    Registry& registry_;
    FaultDesk& faults_;
    const Limits limits_;
    base::UniqueFd epoll_;
    base::UniqueFd stop_event_;
    base::Mutex mutex_;
    std::unordered_map<SessionId, std::shared_ptr<Session>> sessions_ GUARDED_BY(mutex_);
    std::set<SessionId> to_retry_;  // the loop's own
    base::NamedThread thread_;
};

}  // namespace refault::session
