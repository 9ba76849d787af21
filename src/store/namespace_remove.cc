// Removing and renaming names, and freeing files that have neither a name nor a pin.
//
// What frees a file's space holds its layout lock, so that no copy of its bytes is under way. The
// lock comes before the store's lock, so the path is looked up twice: once to learn whose lock it
// takes, once under both.
#include <cerrno>

#include "base/log.h"
#include "store/change.h"
#include "store/clock.h"
#include "store/metadata_log.h"
#include "store/path_walk.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::MutexLock;

namespace {

constexpr int kWrite = 2;

op::UpdateInode touched(const Inode& node, std::uint64_t time_ns, bool is_modified) {
    auto attributes = node.attributes;
    attributes.changed_ns = time_ns;
    if (is_modified) attributes.modified_ns = time_ns;
    return {attributes};
}

}  // namespace

InodeNo Store::inode_at(const std::string& path, const Cred& who) const {
    MutexLock lock(mutex_);
    const auto node = PathWalk(*state_, who).find(path);
    return node ? (*node)->attributes.inode : InodeNo();
}

// The inode has lost its name by the operations before. A pin keeps it.
void Store::drop_inode_locked(const Inode& node, Change& change) const {
    const auto inode = node.attributes.inode;
    if (pins_.contains(inode)) return;
    drop_extents_locked(node, 0, change);
    change.operations.push_back(op::RemoveInode{inode});
    close_emptied_locked(change);
}

Status Store::unlink(const std::string& path, const Cred& who) {
    for (;;) {
        const auto expected = inode_at(path, who);
        auto layout = expected == InodeNo() ? LayoutLock() : lock_layout(expected);
        Change change;
        {
            MutexLock lock(mutex_);
            const PathWalk walk(*state_, who);
            const auto place = walk.existing(path);
            if (!place) return place.error();
            if (place->child->attributes.inode != expected) continue;
            RETURN_IF_ERROR(walk.may_remove(*place, path));
            if (place->child->is_directory())
                return Error(Code::Invalid, path + " is a directory; remove it as one", EISDIR);
            const auto now = now_ns();
            change.operations = {op::UnlinkName{place->parent->attributes.inode, place->name},
                                 touched(*place->parent, now, true),
                                 touched(*place->child, now, false)};
            drop_inode_locked(*place->child, change);
            RETURN_IF_ERROR(commit_locked(change));
        }
        base::discard(vacate(std::move(change)),
                      "the name is gone; the space is found again when the pool is opened");
        return {};
    }
}

Status Store::remove_directory(const std::string& path, const Cred& who) {
    MutexLock lock(mutex_);
    const PathWalk walk(*state_, who);
    const auto place = walk.existing(path);
    if (!place) return place.error();
    RETURN_IF_ERROR(walk.may_remove(*place, path));
    if (!place->child->is_directory())
        return Error(Code::Invalid, path + " is not a directory", ENOTDIR);
    if (!place->child->children->empty())
        return Error(Code::Invalid, path + " is not empty", ENOTEMPTY);
    Change change;
    change.operations = {op::UnlinkName{place->parent->attributes.inode, place->name},
                         touched(*place->parent, now_ns(), true),
                         op::RemoveInode{place->child->attributes.inode}};
    return commit_locked(change);
}

Result<Change> Store::plan_rename_locked(const std::string& from, const std::string& to,
                                         const Cred& who, InodeNo replaced) const {
    const PathWalk walk(*state_, who);
    const auto source = walk.existing(from);
    if (!source) return source.error();
    const auto target = walk.place(to);
    if (!target) return target.error();
    if ((target->child != nullptr ? target->child->attributes.inode : InodeNo()) != replaced)
        return Error(Code::Busy, to + " changes all the time");
    if (source->child == target->child) return Change{};
    RETURN_IF_ERROR(walk.may_remove(*source, from));
    RETURN_IF_ERROR(walk.may_change(*target->parent, to));
    const Inode& moved = *source->child;
    if (moved.is_directory() && source->parent != target->parent) {
        // Its ".." changes.
        RETURN_IF_ERROR(walk.may_access(moved, kWrite, from));
        for (const auto* at = target->parent; at->attributes.inode != base::kRootInode;
             at = state_->inode(at->parent))
            if (at == &moved) return Error(Code::Invalid, to + " lies within " + from);
    }
    const auto now = now_ns();
    Change change;
    change.operations = {op::UnlinkName{source->parent->attributes.inode, source->name},
                         touched(*source->parent, now, true), touched(*target->parent, now, true),
                         touched(moved, now, false)};
    if (target->child != nullptr) {
        RETURN_IF_ERROR(walk.may_remove(*target, to));
        if (target->child->is_directory() && !moved.is_directory())
            return Error(Code::Invalid, to + " is a directory", EISDIR);
        if (!target->child->is_directory() && moved.is_directory())
            return Error(Code::Invalid, to + " is not a directory", ENOTDIR);
        if (target->child->is_directory() && !target->child->children->empty())
            return Error(Code::Invalid, to + " is not empty", ENOTEMPTY);
        change.operations.push_back(op::UnlinkName{target->parent->attributes.inode, target->name});
        drop_inode_locked(*target->child, change);
    }
    change.operations.push_back(
        op::LinkName{target->parent->attributes.inode, target->name, moved.attributes.inode});
    return change;
}

Status Store::rename(const std::string& from, const std::string& to, const Cred& who) {
    for (;;) {
        const auto replaced = inode_at(to, who);
        auto layout = replaced == InodeNo() ? LayoutLock() : lock_layout(replaced);
        Change change;
        {
            MutexLock lock(mutex_);
            auto planned = plan_rename_locked(from, to, who, replaced);
            if (!planned && planned.error().code() == Code::Busy) continue;
            if (!planned) return planned.error();
            if (planned->operations.empty()) return {};
            change = std::move(*planned);
            RETURN_IF_ERROR(commit_locked(change));
        }
        base::discard(vacate(std::move(change)),
                      "the rename is done; the space is found again when the pool is opened");
        return {};
    }
}

void Store::unpin(InodeNo inode) {
    {
        MutexLock lock(mutex_);
        const auto pinned = pins_.find(inode);
        CHECK(pinned != pins_.end());
        const auto* node = state_->inode(inode);
        CHECK(node != nullptr);
        if (pinned->second > 1) {
            --pinned->second;
            return;
        }
        if (node->is_named()) {
            pins_.erase(pinned);
            if (unsaved_times_.contains(inode))
                base::discard(save_times_locked(),
                              "the next transaction saves them; a crash before it loses a time");
            return;
        }
    }
    const auto layout = lock_layout(inode);
    Change change;
    {
        MutexLock lock(mutex_);
        const auto pinned = pins_.find(inode);
        CHECK(pinned != pins_.end());
        if (--pinned->second > 0) return;
        pins_.erase(pinned);
        const auto* node = state_->inode(inode);
        CHECK(node != nullptr);
        if (node->is_named()) return;
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

}  // namespace refault::store
