// The layout locks of the inodes in use: made on demand, dropped with their last holder or waiter.
// What has to wait until nobody uses an inode's lock is done by whoever lets go of it last.
// Thread-safe; its own lock is a leaf.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/ids.h"
#include "base/mutex.h"
#include "store/layout_mutex.h"

namespace refault::store {

class LayoutTable : public std::enable_shared_from_this<LayoutTable> {
  public:
    // Called without any lock of the table; it may use the table.
    using OnIdle = std::function<void(base::InodeNo)>;

    explicit LayoutTable(OnIdle on_idle) : on_idle_(std::move(on_idle)) {}

    std::shared_ptr<LayoutMutex> get(base::InodeNo inode);
    // From here to settled(), on_idle is called whenever the inode's lock has become free.
    void want_idle(base::InodeNo inode);
    // Calls it now where nobody holds the lock nor waits for it; else who lets go of it last does.
    void call_if_idle(base::InodeNo inode) { (void)get(inode); }
    bool wants_idle(base::InodeNo inode) const;
    void settled(base::InodeNo inode);
    std::size_t size() const;

  private:
    void drop(base::InodeNo inode);

    const OnIdle on_idle_;
    mutable base::Mutex mutex_;
    std::unordered_map<base::InodeNo, std::weak_ptr<LayoutMutex>> locks_ GUARDED_BY(mutex_);
    std::unordered_set<base::InodeNo> wanted_idle_ GUARDED_BY(mutex_);
};

}  // namespace refault::store
