// Layout locks: the table, and the holder that a caller keeps.
#include "store/layout_table.h"

#include <algorithm>

#include "store/store.h"

namespace refault::store {

using base::InodeNo;
using base::Mutex;
using base::MutexLock;

std::shared_ptr<Mutex> LayoutTable::get(InodeNo inode) {
    MutexLock lock(mutex_);
    auto& known = locks_[inode];
    if (auto mutex = known.lock()) return mutex;
    auto table = shared_from_this();
    std::shared_ptr<Mutex> made(new Mutex, [table, inode](Mutex* mutex) {
        delete mutex;
        table->drop(inode);
    });
    known = made;
    return made;
}

void LayoutTable::drop(InodeNo inode) {
    MutexLock lock(mutex_);
    // Somebody may have asked for the inode's lock anew before the old one was gone from here.
    const auto found = locks_.find(inode);
    if (found != locks_.end() && found->second.expired()) locks_.erase(found);
}

std::size_t LayoutTable::size() const {
    MutexLock lock(mutex_);
    return locks_.size();
}

// Locks of a list that is only known at run time are beyond the static analysis.
REFAULT_ANNOTATE(no_thread_safety_analysis)
LayoutLock::LayoutLock(std::vector<std::shared_ptr<Mutex>> mutexes) : mutexes_(std::move(mutexes)) {
    for (const auto& mutex : mutexes_) mutex->lock();
}

REFAULT_ANNOTATE(no_thread_safety_analysis)
LayoutLock::~LayoutLock() {
    for (const auto& mutex : mutexes_) mutex->unlock();
}

LayoutLock& LayoutLock::operator=(LayoutLock&& other) noexcept {
    // What this one held is unlocked when the temporary goes.
    LayoutLock moved(std::move(other));
    std::swap(mutexes_, moved.mutexes_);
    return *this;
}

LayoutLock Store::lock_layout(InodeNo inode) {
    return LayoutLock({layouts_->get(inode)});
}

LayoutLock Store::lock_layouts(std::vector<InodeNo> inodes) {
    std::sort(inodes.begin(), inodes.end());
    inodes.erase(std::unique(inodes.begin(), inodes.end()), inodes.end());
    std::vector<std::shared_ptr<Mutex>> mutexes;
    for (const auto inode : inodes) mutexes.push_back(layouts_->get(inode));
    return LayoutLock(std::move(mutexes));
}

}  // namespace refault::store
