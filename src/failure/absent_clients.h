// Processes that map segments since an earlier daemon and have not come back to this one. They know
// of no fence of ours: as long as there is one, no bytes may move, be repaired or be compared, and
// space that a file gives back belongs to nobody else.
//
// Found in the kernel's tables when the pool is opened. A process is back when every segment that
// it maps lies at addresses of its mappings here; else it is waited for until it has let go or
// ended. Tables that cannot be read (an ordinary user's daemon, other users' processes) show
// nobody: see docs/architecture.md. Thread-safe; mutex_ is held over reads of /proc, and is taken
// before the registry's.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/thread.h"
#include "failure/segment_files.h"
#include "session/registry.h"

namespace refault::failure {

using base::Status;

class AbsentClients {
  public:
    // `pids`: who held a segment when the pool was opened.
    AbsentClients(std::vector<SegmentFiles> segments, std::set<pid_t> pids,
                  const session::Registry& registry);
    ~AbsentClients() { stop(); }

    // Looks now. Busy, and who it is.
    Status check();
    // Calls `all_back` once, on the thread `absent-clients`, when nobody is absent any more; at
    // once and on the caller's when nobody is now.
    void when_all_are_back(std::function<void()> all_back);
    void stop();

  private:
    bool is_absent(pid_t pid) const;
    void run(const std::function<void()>& all_back);

    const std::vector<SegmentFiles> segments_;
    const session::Registry& registry_;
    base::Mutex mutex_{base::LockRank::AbsentClients};
    base::CondVar changed_;
    std::set<pid_t> pids_ GUARDED_BY(mutex_);
    bool must_stop_ GUARDED_BY(mutex_) = false;
    base::NamedThread thread_;
};

}  // namespace refault::failure
