// Holding layouts of inodes still.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "store/layout_mutex.h"

namespace refault::store {

// Holds one inode's layout (extents and size) still. Taken before Store::mutex_, never while
// holding it; a thread holds at most one, except through lock_layouts, which orders them.
class LayoutLock {
  public:
    LayoutLock() = default;
    ~LayoutLock() { give_back(); }
    LayoutLock(LayoutLock&&) noexcept = default;
    LayoutLock& operator=(LayoutLock&&) noexcept;

  private:
    friend class Store;
    bool take(std::vector<std::shared_ptr<LayoutMutex>> mutexes, bool is_shared,
              LayoutMutex::Deadline deadline);
    void give_back();

    std::vector<std::shared_ptr<LayoutMutex>> mutexes_;
    bool is_shared_ = false;
};

}  // namespace refault::store
