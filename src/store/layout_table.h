// The layout locks of the inodes in use: made on demand, dropped with their last holder or waiter.
// Thread-safe; its own lock is a leaf.
#pragma once

#include <memory>
#include <unordered_map>

#include "base/ids.h"
#include "base/mutex.h"
#include "store/layout_mutex.h"

namespace refault::store {

class LayoutTable : public std::enable_shared_from_this<LayoutTable> {
  public:
    std::shared_ptr<LayoutMutex> get(base::InodeNo inode);
    std::size_t size() const;

  private:
    void drop(base::InodeNo inode);

    mutable base::Mutex mutex_;
    std::unordered_map<base::InodeNo, std::weak_ptr<LayoutMutex>> locks_ GUARDED_BY(mutex_);
};

}  // namespace refault::store
