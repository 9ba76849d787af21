// One batch of notifications after the other.
#include "mount/notifier.h"

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include <algorithm>
#include <climits>

namespace refault::mount {

using base::FileRange;
using base::InodeNo;
using base::MutexLock;

namespace {
// Of all writes that a batch of drops waits for.
constexpr std::chrono::milliseconds kWritesPatience{50};
constexpr std::chrono::microseconds kLookAgain{50};
}  // namespace

void Notifier::start() {
    thread_ = base::NamedThread("mount-notify", [this] { run(); });
}

void Notifier::stop() {
    {
        MutexLock lock(mutex_);
        is_ending_ = true;
        changed_.notify_all();
    }
    thread_.join();
}

std::uint64_t Notifier::noted_locked() {
    changed_.notify_all();
    return ++noted_;
}

std::uint64_t Notifier::drop(InodeNo inode, FileRange range) {
    MutexLock lock(mutex_);
    work_.ranges[inode].add(
        FileRange(base::align_down(range.begin(), base::kPageBytes), range.end()));
    return noted_locked();
}

std::uint64_t Notifier::forget_attributes(InodeNo inode) {
    MutexLock lock(mutex_);
    work_.attributes.insert(inode);
    return noted_locked();
}

std::uint64_t Notifier::forget_name(InodeNo directory, const std::string& name) {
    MutexLock lock(mutex_);
    work_.names.emplace(directory, name);
    return noted_locked();
}

std::uint64_t Notifier::last() {
    MutexLock lock(mutex_);
    return noted_;
}

bool Notifier::wait(std::uint64_t number, Deadline deadline) {
    MutexLock lock(mutex_);
    while (told_ < number && !is_ending_)
        if (!changed_.wait_until(mutex_, deadline)) break;
    return told_ >= number;
}

void Notifier::run() {
    for (;;) {
        Work work;
        std::uint64_t number = 0;
        {
            MutexLock lock(mutex_);
            while (work_.empty() && !is_ending_) changed_.wait(mutex_);
            if (is_ending_) return;
            std::swap(work, work_);
            number = noted_;
        }
        tell(work);
        MutexLock lock(mutex_);
        told_ = number;
        changed_.notify_all();
    }
}

// There may be a writer for ever.
void Notifier::wait_for_writes(InodeNo inode, Deadline deadline) const {
    while (writes_.is_written(inode) && std::chrono::steady_clock::now() < deadline)
        std::this_thread::sleep_for(kLookAgain);
}

// An inode or a name that the kernel does not know any more is an error here and none to us, and so
// is a connection that has ended.
void Notifier::tell(const Work& work) const {
    const auto deadline = std::chrono::steady_clock::now() + kWritesPatience;
    for (const auto& [inode, ranges] : work.ranges) {
        wait_for_writes(inode, deadline);
        writes_.begin_drop(inode);
        for (const auto& range : ranges.parts()) {
            const auto begin = std::min<std::uint64_t>(range.begin(), LLONG_MAX);
            const auto length = std::min<std::uint64_t>(range.end(), LLONG_MAX) - begin;
            // A length of 0 means: to the end.
            (void)fuse_lowlevel_notify_inval_inode(
                session_, inode.raw(), static_cast<off_t>(begin),
                range.end() >= LLONG_MAX ? 0 : static_cast<off_t>(length));
        }
        writes_.end_drop(inode);
    }
    for (const auto inode : work.attributes)
        (void)fuse_lowlevel_notify_inval_inode(session_, inode.raw(), -1, 0);
    for (const auto& [directory, name] : work.names) {
        (void)fuse_lowlevel_notify_inval_entry(session_, directory.raw(), name.c_str(),
                                               name.size());
        (void)fuse_lowlevel_notify_inval_inode(session_, directory.raw(), -1, 0);
    }
}

}  // namespace refault::mount
