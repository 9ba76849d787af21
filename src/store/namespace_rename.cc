// Giving what has one name another.
//
//   Replace     a -> x, b -> y      b -> x, y loses the name
//   NoReplace   a -> x, b free      b -> x
//   Exchange    a -> x, b -> y      a -> y, b -> x
//
// Two names of one inode stay as they are, as rename(2) wants it.
#include <cerrno>

#include "store/change.h"
#include "store/clock.h"
#include "store/layout_table.h"
#include "store/metadata_log.h"
#include "store/name_times.h"
#include "store/rename.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::MutexLock;

namespace {

// What is moved would lie within itself.
Status may_move_into(const State& state, const Place& moved, const Inode& directory) {
    if (!moved.child->is_directory() || moved.parent == &directory) return {};
    if (state.is_above(moved.child->attributes.inode, directory.attributes.inode))
        return Error(Code::Invalid, moved.name + " would lie within itself");
    return {};
}

Status may_replace(const Inode& moved, const Place& target) {
    if (target.child->is_directory() && !moved.is_directory())
        return Error(Code::Invalid, target.name + " is a directory", EISDIR);
    if (!target.child->is_directory() && moved.is_directory())
        return Error(Code::Invalid, target.name + " is not a directory", ENOTDIR);
    if (target.child->is_directory() && !target.child->children->empty())
        return Error(Code::Invalid, target.name + " is not empty", ENOTEMPTY);
    return {};
}

op::LinkName linked(const Place& place, const Inode& node) {
    return {place.parent->attributes.inode, place.name, node.attributes.inode};
}

op::UnlinkName unlinked(const Place& place) {
    return {place.parent->attributes.inode, place.name};
}

// The times of both directories, and of what is moved.
std::vector<Operation> touched(const Place& from, const Place& to, std::uint64_t now) {
    std::vector<Operation> operations{modified_at(*from.parent, now), changed_at(*from.child, now)};
    if (from.parent != to.parent) operations.push_back(modified_at(*to.parent, now));
    return operations;
}

}  // namespace

Result<Change> Store::plan_exchange_locked(const Place& one, const Place& other) const {
    RETURN_IF_ERROR(may_move_into(*state_, one, *other.parent));
    RETURN_IF_ERROR(may_move_into(*state_, other, *one.parent));
    const auto now = now_ns();
    Change change;
    change.operations = touched(one, other, now);
    change.operations.push_back(changed_at(*other.child, now));
    for (const auto& place : {one, other}) change.operations.push_back(unlinked(place));
    change.operations.push_back(linked(one, *other.child));
    change.operations.push_back(linked(other, *one.child));
    return change;
}

// `unheld`: the inode that loses its last name, and has space to be freed.
Result<Change> Store::plan_rename_locked(const Renaming& renaming, InodeNo& unheld) const {
    const auto from = renaming.from(*state_);
    if (!from) return from.error();
    if (from->child == nullptr) return Error(Code::NotFound, "there is no " + from->name);
    const auto to = renaming.to(*state_);
    if (!to) return to.error();
    const auto* target = to->child;
    if (target != nullptr && renaming.mode == RenameMode::NoReplace)
        return Error(Code::Exists, to->name + " exists already");
    if (target == nullptr && renaming.mode == RenameMode::Exchange)
        return Error(Code::NotFound, "there is no " + to->name);
    if (from->child == target) return Change{};
    RETURN_IF_ERROR(renaming.judge(*state_, *from, *to));
    if (renaming.mode == RenameMode::Exchange) return plan_exchange_locked(*from, *to);
    RETURN_IF_ERROR(may_move_into(*state_, *from, *to->parent));
    if (target != nullptr) RETURN_IF_ERROR(may_replace(*from->child, *to));
    const auto now = now_ns();
    Change change;
    change.operations = touched(*from, *to, now);
    if (target != nullptr && drop_name_locked(*to, now, change)) unheld = target->attributes.inode;
    change.operations.push_back(unlinked(*from));
    change.operations.push_back(linked(*to, *from->child));
    return change;
}

Status Store::rename_name(const Renaming& renaming) {
    InodeNo unheld;
    {
        MutexLock lock(mutex_);
        auto planned = plan_rename_locked(renaming, unheld);
        if (!planned) return planned.error();
        if (planned->operations.empty()) return {};
        RETURN_IF_ERROR(commit_locked(*planned));
        if (unheld != InodeNo()) layouts_->want_idle(unheld);
    }
    if (unheld != InodeNo()) layouts_->call_if_idle(unheld);
    return {};
}

Status Store::rename(const std::string& from, const std::string& to, const Cred& who) {
    constexpr int kWrite = 2;
    Renaming renaming;
    renaming.from = [&](const State& state) { return PathWalk(state, who).existing(from); };
    renaming.to = [&](const State& state) { return PathWalk(state, who).place(to); };
    renaming.judge = [&](const State& state, const Place& source, const Place& target) -> Status {
        const PathWalk walk(state, who);
        RETURN_IF_ERROR(walk.may_remove(source, from));
        RETURN_IF_ERROR(walk.may_change(*target.parent, to));
        // Its ".." changes.
        if (source.child->is_directory() && source.parent != target.parent)
            RETURN_IF_ERROR(walk.may_access(*source.child, kWrite, from));
        return target.child != nullptr ? walk.may_remove(target, to) : Status();
    };
    return rename_name(renaming);
}

}  // namespace refault::store
