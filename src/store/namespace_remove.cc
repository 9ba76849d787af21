// Removing names, and freeing inodes that have neither a name nor anybody who holds them.
//
// What frees a file's space holds its layout lock, so that no copy of its bytes is under way. The
// lock comes before the store's lock, so the name is looked up twice: once to learn whose lock it
// takes, once under both.
#include <cerrno>

#include "base/log.h"
#include "store/change.h"
#include "store/clock.h"
#include "store/metadata_log.h"
#include "store/name_times.h"
#include "store/path_walk.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::MutexLock;

namespace {

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

InodeNo Store::inode_at(const FindName& find) const {
    MutexLock lock(mutex_);
    const auto place = find(*state_);
    return place && place->child != nullptr ? place->child->attributes.inode : InodeNo();
}

void Store::drop_inode_locked(const Inode& node, std::size_t names_left, Change& change) const {
    const auto inode = node.attributes.inode;
    if (names_left > 0 || is_held_locked(inode)) return;
    drop_extents_locked(node, 0, change);
    change.operations.push_back(op::RemoveInode{inode});
    close_emptied_locked(change);
}

void Store::drop_name_locked(const Place& place, std::uint64_t time_ns, Change& change) const {
    const auto& child = *place.child;
    change.operations.push_back(op::UnlinkName{place.parent->attributes.inode, place.name});
    const auto names_left = child.name_count() - 1;
    if (names_left > 0 || is_held_locked(child.attributes.inode))
        change.operations.push_back(changed_at(child, time_ns));
    drop_inode_locked(child, names_left, change);
}

Status Store::remove_name(const FindName& find, bool is_directory) {
    for (;;) {
        const auto expected = inode_at(find);
        auto layout = expected == InodeNo() ? LayoutLock() : lock_layout(expected);
        Change change;
        {
            MutexLock lock(mutex_);
            const auto place = find(*state_);
            if (!place) return place.error();
            if (place->child == nullptr) return Error(Code::NotFound, "there is no " + place->name);
            if (place->child->attributes.inode != expected) continue;
            RETURN_IF_ERROR(may_go(*place, is_directory));
            const auto now = now_ns();
            change.operations = {modified_at(*place->parent, now)};
            drop_name_locked(*place, now, change);
            RETURN_IF_ERROR(commit_locked(change));
        }
        base::discard(vacate(std::move(change)),
                      "the name is gone; the space is found again when the pool is opened");
        return {};
    }
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
    return pins_.contains(inode) || remembered_.contains(inode);
}

bool Store::is_last_hold_locked(InodeNo inode, Hold hold, std::uint64_t count) const {
    const auto pinned = pins_.find(inode);
    const std::uint64_t pins = pinned == pins_.end() ? 0 : pinned->second;
    const auto remembered = remembered_.find(inode);
    const std::uint64_t memories = remembered == remembered_.end() ? 0 : remembered->second;
    CHECK(count <= (hold == Hold::Pin ? pins : memories));
    return pins + memories == count;
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
        if (node == nullptr || node->is_named() || !is_last_hold_locked(inode, hold, count)) {
            take_off_locked(inode, hold, count);
            if (hold == Hold::Pin && !pins_.contains(inode) && unsaved_times_.contains(inode))
                base::discard(save_times_locked(),
                              "the next transaction saves them; a crash before it loses a time");
            return;
        }
    }
    const auto layout = lock_layout(inode);
    Change change;
    {
        MutexLock lock(mutex_);
        take_off_locked(inode, hold, count);
        const auto* node = state_->inode(inode);
        CHECK(node != nullptr);
        if (node->is_named()) return;
        drop_inode_locked(*node, 0, change);
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

void Store::unpin(InodeNo inode) {
    let_go(inode, Hold::Pin, 1);
}

}  // namespace refault::store
