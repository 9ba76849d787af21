// The thread `mount-notify`: tells the kernel what it may not go on caching. Each of these calls
// waits for locks of pages or directories that requests hold which the kernel has sent to us, and
// writes dirty pages through requests of its own. So it is done here and nowhere else, with no lock
// of ours held, when the new state is in force; and no request ever waits for this thread.
//
// What is to be dropped is kept as ranges, so the queue is bounded by what the kernel can cache.
// Thread-safe; mutex_ is a leaf.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "base/ids.h"
#include "base/mutex.h"
#include "base/range_set.h"
#include "base/thread.h"
#include "mount/writes_under_way.h"

struct fuse_session;

namespace refault::mount {

class Notifier {
  public:
    using Deadline = std::chrono::steady_clock::time_point;

    Notifier(fuse_session* session, WritesUnderWay& writes) : session_(session), writes_(writes) {}
    // Ends after the notification under way.
    ~Notifier() { stop(); }

    void start();
    void stop();
    // Takes note. The number is for wait().
    std::uint64_t drop(base::InodeNo inode, base::FileRange range);
    std::uint64_t forget_attributes(base::InodeNo inode);
    std::uint64_t forget_name(base::InodeNo directory, const std::string& name);
    // The number of what was noted last.
    std::uint64_t last();
    // Until the kernel has done it; false at the deadline.
    bool wait(std::uint64_t number, Deadline deadline);

  private:
    struct Work {
        std::map<base::InodeNo, base::RangeSet> ranges;
        std::set<base::InodeNo> attributes;
        std::set<std::pair<base::InodeNo, std::string>> names;
        bool empty() const { return ranges.empty() && attributes.empty() && names.empty(); }
    };
    void run();
    void tell(const Work& work) const;
    void wait_for_writes(base::InodeNo inode, Deadline deadline) const;
    std::uint64_t noted_locked() REQUIRES(mutex_);

    fuse_session* const session_;
    WritesUnderWay& writes_;
    base::Mutex mutex_;
    base::CondVar changed_;
    Work work_ GUARDED_BY(mutex_);
    std::uint64_t noted_ GUARDED_BY(mutex_) = 0;
    std::uint64_t told_ GUARDED_BY(mutex_) = 0;
    bool is_ending_ GUARDED_BY(mutex_) = false;
    base::NamedThread thread_;
};

}  // namespace refault::mount
