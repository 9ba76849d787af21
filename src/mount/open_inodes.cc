// Cached or direct, decided at open.
#include "mount/open_inodes.h"

#include <iterator>
#include <utility>

namespace refault::mount {

using base::InodeNo;
using base::MutexLock;

void OpenInodes::close_all() {
    std::vector<std::pair<InodeNo, std::uint32_t>> left;
    {
        MutexLock lock(mutex_);
        for (auto at = uses_.begin(); at != uses_.end();) {
            auto& uses = at->second;
            left.emplace_back(at->first, uses.cached + uses.direct);
            uses.cached = uses.direct = 0;
            uses.was_direct = uses.was_dropped = false;
            at = uses.claims == 0 ? uses_.erase(at) : std::next(at);
        }
    }
    for (const auto& [inode, count] : left)
        for (auto i = count; i > 0; --i) tree_.close(inode);
}

base::Result<OpenMode> OpenInodes::open(InodeNo inode) {
    MutexLock lock(mutex_);
    if (const auto opened = tree_.open(inode); !opened) return opened.error();
    auto& uses = uses_[inode];
    const bool is_direct =
        uses.direct > 0 || uses.claims > 0 || (uses.cached == 0 && registry_.is_mapped(inode));
    ++(is_direct ? uses.direct : uses.cached);
    if (is_direct) uses.was_direct = true;
    if (is_direct) return OpenMode::Direct;
    return uses.was_direct ? OpenMode::CachedAnew : OpenMode::Cached;
}

bool OpenInodes::take_off_locked(InodeNo inode, OpenMode mode) {
    const auto at = uses_.find(inode);
    if (at == uses_.end()) return false;
    auto& uses = at->second;
    auto& count = mode == OpenMode::Direct ? uses.direct : uses.cached;
    if (count == 0) return false;
    --count;
    // The kernel comes to the answers of several opens in any order: all of them drop the pages.
    if (uses.cached == 0 && uses.was_dropped) uses.was_direct = uses.was_dropped = false;
    drop_if_unused_locked(inode);
    return true;
}

void OpenInodes::close(InodeNo inode, OpenMode mode) {
    {
        MutexLock lock(mutex_);
        if (const auto at = uses_.find(inode); at != uses_.end())
            at->second.was_dropped |= mode == OpenMode::CachedAnew;
        if (!take_off_locked(inode, mode)) return;
    }
    tree_.close(inode);
}

void OpenInodes::abandon(InodeNo inode, OpenMode mode) {
    {
        MutexLock lock(mutex_);
        if (!take_off_locked(inode, mode)) return;
    }
    tree_.close(inode);
}

void OpenInodes::forgotten(InodeNo inode) {
    MutexLock lock(mutex_);
    const auto at = uses_.find(inode);
    if (at == uses_.end()) return;
    at->second.was_direct = at->second.was_dropped = false;
    drop_if_unused_locked(inode);
}

std::vector<OpenInode> OpenInodes::hand_over() const {
    MutexLock lock(mutex_);
    std::unordered_map<InodeNo, OpenInode> opens;
    for (const auto& [inode, uses] : uses_)
        opens[inode] = {inode,           uses.cached,      uses.direct,
                        uses.was_direct, uses.was_dropped, uses.claims > 0};
    for (const auto& mapping : registry_.mappings()) {
        opens[mapping.inode].inode = mapping.inode;
        opens[mapping.inode].is_claimed = true;
    }
    std::vector<OpenInode> list;
    for (const auto& [inode, one] : opens) list.push_back(one);
    return list;
}

void OpenInodes::take_over(const std::vector<OpenInode>& opens) {
    MutexLock lock(mutex_);
    for (const auto& one : opens) {
        // What was lost with its device meanwhile is not open: who asks gets ESTALE.
        bool is_there = true;
        for (auto i = one.cached + one.direct; i > 0 && is_there; --i)
            is_there = tree_.open(one.inode).ok();
        if (is_there)
            uses_[one.inode] = {one.cached, one.direct, one.is_claimed ? 1u : 0u, one.was_direct,
                                one.was_dropped};
    }
}

bool OpenInodes::is_open(InodeNo inode) const {
    MutexLock lock(mutex_);
    const auto at = uses_.find(inode);
    return at != uses_.end() && at->second.cached + at->second.direct > 0;
}

base::Status OpenInodes::claim(InodeNo inode) {
    MutexLock lock(mutex_);
    auto& uses = uses_[inode];
    if (uses.cached > 0)
        return base::Error(
            base::Code::Busy,
            "the file is open on a mount, through the kernel's cache, which a direct mapping would "
            "pass by; close it there first, or map it there as well");
    ++uses.claims;
    return {};
}

void OpenInodes::unclaim(InodeNo inode) {
    MutexLock lock(mutex_);
    --uses_[inode].claims;
    drop_if_unused_locked(inode);
}

void OpenInodes::drop_if_unused_locked(InodeNo inode) {
    const auto at = uses_.find(inode);
    const auto& uses = at->second;
    if (uses.cached + uses.direct + uses.claims == 0 && !uses.was_direct) uses_.erase(at);
}

std::vector<InodeNo> OpenInodes::cached() const {
    MutexLock lock(mutex_);
    std::vector<InodeNo> inodes;
    for (const auto& [inode, uses] : uses_)
        if (uses.cached > 0) inodes.push_back(inode);
    return inodes;
}

std::size_t OpenInodes::count() const {
    MutexLock lock(mutex_);
    std::size_t count = 0;
    for (const auto& [inode, uses] : uses_) count += uses.cached + uses.direct;
    return count;
}

}  // namespace refault::mount
