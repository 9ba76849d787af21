// How often the kernel has been told of each inode and has not forgotten it yet. As long as it
// remembers an inode the store keeps it, also without a name. Thread-safe; mutex_ is a leaf.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/mutex.h"
#include "store/tree.h"

namespace refault::mount {

class Remembered {
  public:
    explicit Remembered(store::Tree& tree) : tree_(tree) {}

    // The tree has counted one more.
    void add(base::InodeNo inode) {
        base::MutexLock lock(mutex_);
        ++counts_[inode];
    }
    // At most what was added: the kernel is trusted no further. True when it is forgotten now.
    bool forget(base::InodeNo inode, std::uint64_t count) {
        bool is_last = false;
        {
            base::MutexLock lock(mutex_);
            const auto at = counts_.find(inode);
            if (at == counts_.end()) return false;
            count = count < at->second ? count : at->second;
            at->second -= count;
            is_last = at->second == 0;
            if (is_last) counts_.erase(at);
        }
        tree_.forget(inode, count);
        return is_last;
    }
    bool knows(base::InodeNo inode) const {
        base::MutexLock lock(mutex_);
        return inode == base::kRootInode || counts_.contains(inode);
    }

    // While no request is under way.
    std::vector<std::pair<base::InodeNo, std::uint64_t>> hand_over() const {
        base::MutexLock lock(mutex_);
        return {counts_.begin(), counts_.end()};
    }
    // In the tree as well. An inode that it does not have any more is ESTALE to who asks for it.
    void take_over(const std::vector<std::pair<base::InodeNo, std::uint64_t>>& counts) {
        for (const auto& [inode, count] : counts) {
            if (!tree_.remember(inode, count)) continue;
            base::MutexLock lock(mutex_);
            counts_[inode] += count;
        }
    }

    // A mount that ends, however it ends, forgets all.
    void forget_all() {
        std::unordered_map<base::InodeNo, std::uint64_t> counts;
        {
            base::MutexLock lock(mutex_);
            counts.swap(counts_);
        }
        for (const auto& [inode, count] : counts) tree_.forget(inode, count);
    }

  private:
    store::Tree& tree_;
    mutable base::Mutex mutex_;
    std::unordered_map<base::InodeNo, std::uint64_t> counts_ GUARDED_BY(mutex_);
};

}  // namespace refault::mount
