// Layout locks: the table, and the holder that a caller keeps.
#include "store/layout_table.h"

#include <algorithm>
#include <cerrno>

#include "store/store.h"

namespace refault::store {

namespace {

// All that a LayoutLock holds is one step of the order: a thread has one LayoutLock, and that sorts
// its inodes.
constexpr base::OrderedLock kLayoutOrder{base::LockRank::Layout, __FILE__, __LINE__};

}  // namespace

using base::InodeNo;
using base::MutexLock;

std::shared_ptr<LayoutMutex> LayoutTable::get(InodeNo inode) {
    MutexLock lock(mutex_);
    auto& known = locks_[inode];
    if (auto mutex = known.lock()) return mutex;
    auto table = shared_from_this();
    std::shared_ptr<LayoutMutex> made(new LayoutMutex, [table, inode](LayoutMutex* mutex) {
        delete mutex;
        table->drop(inode);
    });
    known = made;
    return made;
}

void LayoutTable::drop(InodeNo inode) {
    {
        MutexLock lock(mutex_);
        // Somebody may have asked for the inode's lock anew before the old one was gone from here.
        const auto found = locks_.find(inode);
        if (found != locks_.end() && !found->second.expired()) return;
        if (found != locks_.end()) locks_.erase(found);
        if (!wanted_idle_.contains(inode)) return;
    }
    on_idle_(inode);
}

void LayoutTable::want_idle(InodeNo inode) {
    MutexLock lock(mutex_);
    wanted_idle_.insert(inode);
}

bool LayoutTable::wants_idle(InodeNo inode) const {
    MutexLock lock(mutex_);
    return wanted_idle_.contains(inode);
}

void LayoutTable::settled(InodeNo inode) {
    MutexLock lock(mutex_);
    wanted_idle_.erase(inode);
}

std::size_t LayoutTable::size() const {
    MutexLock lock(mutex_);
    return locks_.size();
}

bool LayoutLock::take(std::vector<std::shared_ptr<LayoutMutex>> mutexes, bool is_shared,
                      LayoutMutex::Deadline deadline) {
    is_shared_ = is_shared;
    base::check_lock_order(kLayoutOrder);
    for (auto& mutex : mutexes) {
        if (!(is_shared ? mutex->lock_shared(deadline) : mutex->lock(deadline))) {
            give_back();
            return false;
        }
        mutexes_.push_back(std::move(mutex));
        if (mutexes_.size() == 1) base::note_held(kLayoutOrder);
    }
    return true;
}

void LayoutLock::give_back() {
    if (!mutexes_.empty()) base::note_released(kLayoutOrder);
    for (const auto& mutex : mutexes_) {
        if (is_shared_)
            mutex->unlock_shared();
        else
            mutex->unlock();
    }
    mutexes_.clear();
}

LayoutLock& LayoutLock::operator=(LayoutLock&& other) noexcept {
    // What this one held is unlocked when the temporary goes.
    LayoutLock moved(std::move(other));
    std::swap(mutexes_, moved.mutexes_);
    std::swap(is_shared_, moved.is_shared_);
    return *this;
}

LayoutLock Store::lock_layout(InodeNo inode) {
    LayoutLock lock;
    (void)lock.take({layouts_->get(inode)}, /*is_shared=*/false, LayoutMutex::kNever);
    return lock;
}

Result<LayoutLock> Store::lock_layout_until(InodeNo inode, LayoutUse use,
                                            LayoutMutex::Deadline deadline) {
    LayoutLock lock;
    if (lock.take({layouts_->get(inode)}, use == LayoutUse::Read, deadline)) return lock;
    return base::Error(base::Code::TimedOut,
                       "a part of the file is being moved or recovered for too long", EIO);
}

LayoutLock Store::lock_layouts(std::vector<InodeNo> inodes) {
    std::sort(inodes.begin(), inodes.end());
    inodes.erase(std::unique(inodes.begin(), inodes.end()), inodes.end());
    std::vector<std::shared_ptr<LayoutMutex>> mutexes;
    for (const auto inode : inodes) mutexes.push_back(layouts_->get(inode));
    LayoutLock lock;
    (void)lock.take(std::move(mutexes), /*is_shared=*/false, LayoutMutex::kNever);
    return lock;
}

}  // namespace refault::store
