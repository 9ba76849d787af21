// Removing names, and freeing inodes that have neither a name nor anybody who holds them.
//
// A name goes at once. What frees a file's space holds its layout lock, so that no copy of its
// bytes is under way: a file that has any is freed by a transaction of its own when its lock is
// free, by whoever lets go of it last. Nobody waits for that. One without space goes at once, and
// the next transaction writes it down. After a crash in between, the next opening of the pool finds
// an inode without a name, as it does for files that were open.
#include <cerrno>

#include "base/log.h"
#include "store/change.h"
#include "store/clock.h"
#include "store/layout_table.h"
#include "store/metadata_log.h"
#include "store/name_times.h"
#include "store/path_walk.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::MutexLock;
using std::chrono::steady_clock;

namespace {

constexpr std::size_t kUnsavedRemovalsMax = 64;

// Why this name cannot be removed in this way, if so.
Status may_go(const Place& place, bool is_directory) {
    if (place.child->is_directory() && !is_directory)
        return Error(Code::Invalid, place.name + " is a directory; remove it as one", EISDIR);
    if (!place.child->is_directory() && is_directory)
        return Error(Code::Invalid, place.name + " is not a directory", ENOTDIR);
    if (is_directory && !place.child->children->empty())
        return Error(Code::Invalid, place.name + " is not empty", ENOTEMPTY);
    return {};
}

}  // namespace

// With one name less, of a node that is not held: true when its space is still to be freed.
bool Store::drop_name_locked(const Place& place, std::uint64_t time_ns, Change& change) const {
    const auto& child = *place.child;
    change.operations.push_back(op::UnlinkName{place.parent->attributes.inode, place.name});
    if (child.name_count() > 1 || is_held_locked(child.attributes.inode)) {
        change.operations.push_back(changed_at(child, time_ns));
        return false;
    }
    if (!child.extents.empty()) return true;
    drop_inode_locked(child, change);
    return false;
}

void Store::drop_inode_locked(const Inode& node, Change& change) const {
    drop_extents_locked(node, 0, change);
    change.operations.push_back(op::RemoveInode{node.attributes.inode});
    close_emptied_locked(change);
}

// Where somebody uses the layout again already, this is called once more after that.
void Store::free_unheld(InodeNo inode) {
    const auto layout = lock_layout_until(inode, LayoutUse::Change, steady_clock::now());
    if (!layout) return;
    Change change;
    {
        MutexLock lock(mutex_);
        layouts_->settled(inode);
        const auto* node = state_->inode(inode);
        if (node == nullptr || node->is_named() || is_held_locked(inode)) return;
        drop_inode_locked(*node, change);
        if (const auto dropped = commit_locked(change); !dropped) {
            base::log_line(base::LogLevel::Warning,
                           "an unlinked file keeps its space until the pool is opened again: " +
                               dropped.error().message());
            return;
        }
    }
    base::discard(vacate(std::move(change)),
                  "the file is gone; the space is found again when the pool is opened");
}

Status Store::remove_name(const FindName& find, bool is_directory) {
    InodeNo unheld;
    {
        MutexLock lock(mutex_);
        const auto place = find(*state_);
        if (!place) return place.error();
        if (place->child == nullptr) return Error(Code::NotFound, "there is no " + place->name);
        RETURN_IF_ERROR(may_go(*place, is_directory));
        const auto inode = place->child->attributes.inode;
        const auto now = now_ns();
        Change change;
        change.operations = {modified_at(*place->parent, now)};
        if (drop_name_locked(*place, now, change)) unheld = inode;
        RETURN_IF_ERROR(commit_locked(change));
        if (unheld != InodeNo()) layouts_->want_idle(unheld);
    }
    if (unheld != InodeNo()) layouts_->call_if_idle(unheld);
    return {};
}

Status Store::remove_path(const std::string& path, const Cred& who, bool is_directory) {
    return remove_name(
        [&](const State& state) -> Result<Place> {
            const PathWalk walk(state, who);
            auto place = walk.existing(path);
            if (!place) return place;
            if (const auto may = walk.may_remove(*place, path); !may) return may.error();
            return place;
        },
        is_directory);
}

Status Store::unlink(const std::string& path, const Cred& who) {
    return remove_path(path, who, /*is_directory=*/false);
}

Status Store::remove_directory(const std::string& path, const Cred& who) {
    return remove_path(path, who, /*is_directory=*/true);
}

bool Store::is_held_locked(InodeNo inode) const {
    return keeps_left_overs_ || pins_.contains(inode) || remembered_.contains(inode);
}

void Store::take_off_locked(InodeNo inode, Hold hold, std::uint64_t count) {
    const auto take_off = [&](auto& holds) {
        const auto at = holds.find(inode);
        CHECK(at != holds.end() && at->second >= count);
        at->second -= static_cast<decltype(at->second + 0)>(count);
        if (at->second == 0) holds.erase(at);
    };
    if (hold == Hold::Pin)
        take_off(pins_);
    else
        take_off(remembered_);
}

void Store::let_go(InodeNo inode, Hold hold, std::uint64_t count) {
    {
        MutexLock lock(mutex_);
        const auto* node = state_->inode(inode);
        CHECK(node != nullptr || hold == Hold::Memory);
        take_off_locked(inode, hold, count);
        if (node == nullptr || node->is_named() || is_held_locked(inode)) {
            if (hold == Hold::Pin && !pins_.contains(inode) && unsaved_times_.contains(inode))
                base::discard(save_unsaved_locked(),
                              "the next transaction saves them; a crash before it loses a time");
            return;
        }
        if (node->extents.empty() && node->lost.empty()) return drop_spaceless_inode_locked(inode);
        layouts_->want_idle(inode);
    }
    layouts_->call_if_idle(inode);
}

// The next transaction writes it down: the kernel forgets most files right before it removes
// another.
void Store::drop_spaceless_inode_locked(InodeNo inode) {
    CHECK(state_->apply(op::RemoveInode{inode}).ok());
    unsaved_removals_.push_back(inode);
    if (unsaved_removals_.size() > kUnsavedRemovalsMax)
        base::discard(save_unsaved_locked(), "the next opening of the pool removes them");
}

void Store::unpin(InodeNo inode) {
    let_go(inode, Hold::Pin, 1);
}

}  // namespace refault::store
