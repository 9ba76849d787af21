// Finding, making and describing files and directories by their paths.
#include <algorithm>
#include <ctime>

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
constexpr int kRead = 4;
constexpr int kWrite = 2;
}  // namespace

Result<Attributes> Store::stat(const std::string& path, const Cred& who) const {
    MutexLock lock(mutex_);
    const auto node = PathWalk(*state_, who).find(path);
    if (!node) return node.error();
    return (*node)->attributes;
}

Result<Attributes> Store::stat(InodeNo inode) const {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr)
        return Error(Code::NotFound, "there is no inode " + std::to_string(inode.raw()));
    return node->attributes;
}

std::string Store::path_of(InodeNo inode) const {
    MutexLock lock(mutex_);
    return state_->path_of(inode);
}

std::vector<std::string> Store::paths_of(InodeNo inode) const {
    MutexLock lock(mutex_);
    return state_->paths_of(inode);
}

Result<Attributes> Store::make_at(const std::string& path, const NewNode& node, const Cred& who) {
    MutexLock lock(mutex_);
    const PathWalk walk(*state_, who);
    const auto place = walk.place(path);
    if (!place) return place.error();
    if (place->child != nullptr) return Error(Code::Exists, path + " exists already");
    RETURN_IF_ERROR(walk.may_change(*place->parent, path));
    return make_locked(*place, node);
}

Result<Attributes> Store::create_file(const std::string& path, mode_t mode, const Cred& who) {
    return make_at(path, {FileType::Regular, mode, who.uid, who.gid, 0, {}}, who);
}

Result<Attributes> Store::make_directory(const std::string& path, mode_t mode, const Cred& who) {
    return make_at(path, {FileType::Directory, mode, who.uid, who.gid, 0, {}}, who);
}

Result<std::vector<DirectoryEntry>> Store::list(const std::string& path, const Cred& who) const {
    MutexLock lock(mutex_);
    const PathWalk walk(*state_, who);
    const auto node = walk.find(path);
    if (!node) return node.error();
    if (!(*node)->is_directory())
        return Error(Code::Invalid, path + " is not a directory", ENOTDIR);
    RETURN_IF_ERROR(walk.may_access(**node, kRead, path));
    std::vector<DirectoryEntry> entries;
    for (const auto& [name, child] : *(*node)->children)
        entries.push_back({name, state_->inode(child)->attributes});
    return entries;
}

Status Store::set_mode(const std::string& path, mode_t mode, const Cred& who) {
    MutexLock lock(mutex_);
    const PathWalk walk(*state_, who);
    const auto node = walk.find(path);
    if (!node) return node.error();
    RETURN_IF_ERROR(walk.must_own(**node, path));
    // Nobody makes programs of a group that is not his own.
    const auto gid = (*node)->attributes.gid;
    const bool in_group = who.uid == 0 || who.gid == gid ||
                          std::find(who.groups.begin(), who.groups.end(), gid) != who.groups.end();
    AttributeChange change;
    change.mode = in_group ? mode : mode & ~kSetgid;
    return change_attributes_locked(**node, change);
}

Status Store::set_owner(const std::string& path, uid_t uid, gid_t gid, const Cred& who) {
    MutexLock lock(mutex_);
    const auto node = PathWalk(*state_, who).find(path);
    if (!node) return node.error();
    if (who.uid != 0)
        return Error(Code::Denied, "only root may change the owner of " + path, EPERM);
    AttributeChange change;
    if (uid != static_cast<uid_t>(-1)) change.uid = uid;
    if (gid != static_cast<gid_t>(-1)) change.gid = gid;
    return change_attributes_locked(**node, change);
}

Status Store::set_redundancy(const std::string& path, const Redundancy& wanted, const Cred& who) {
    MutexLock lock(mutex_);
    const PathWalk walk(*state_, who);
    const auto node = walk.find(path);
    if (!node) return node.error();
    RETURN_IF_ERROR(walk.must_own(**node, path));
    auto changed = (*node)->attributes;
    changed.replicas = wanted.replicas.value_or(changed.replicas);
    changed.on_loss = wanted.on_loss.value_or(changed.on_loss);
    if (changed.replicas == 0 || changed.replicas > kCopiesMax)
        return Error(Code::Invalid, "a file has 1 to " + std::to_string(kCopiesMax) + " copies");
    std::size_t staying = 0;
    for (const auto& [id, device] : devices_) staying += allocator_->is_leaving(id) ? 0 : 1;
    if (changed.replicas > (*node)->attributes.replicas && changed.replicas > staying)
        return Error(Code::NoSpace, std::to_string(changed.replicas) +
                                        " copies need as many devices and the pool has " +
                                        std::to_string(staying) + "; add a device first");
    changed.changed_ns = now_ns();
    Change change;
    change.operations = {op::UpdateInode{changed}};
    return commit_locked(change);
}

Status Store::set_modified(const std::string& path, std::uint64_t modified_ns, const Cred& who) {
    MutexLock lock(mutex_);
    const PathWalk walk(*state_, who);
    const auto node = walk.find(path);
    if (!node) return node.error();
    RETURN_IF_ERROR(walk.must_own(**node, path));
    AttributeChange change;
    change.modified_ns = modified_ns;
    return change_attributes_locked(**node, change);
}

Result<Attributes> Store::open_file(const std::string& path, base::Access access, const Cred& who) {
    MutexLock lock(mutex_);
    const PathWalk walk(*state_, who);
    const auto node = walk.find(path);
    if (!node) return node.error();
    if ((*node)->is_directory()) return Error(Code::Invalid, path + " is a directory", EISDIR);
    if (!(*node)->has_bytes())
        return Error(Code::Invalid, path + " is a node without bytes of its own", ENXIO);
    RETURN_IF_ERROR(
        walk.may_access(**node, access == base::Access::Read ? kRead : kRead | kWrite, path));
    if (detaching_.contains((*node)->attributes.inode))
        return Error(Code::Busy, path + " is being detached with its device");
    ++pins_[(*node)->attributes.inode];
    return (*node)->attributes;
}

bool Store::is_open(InodeNo inode) const {
    MutexLock lock(mutex_);
    return pins_.contains(inode);
}

Status Store::pin(InodeNo inode) {
    MutexLock lock(mutex_);
    const auto* node = state_->inode(inode);
    if (node == nullptr || !node->has_bytes())
        return Error(Code::NotFound, "the file is gone", ESTALE);
    if (detaching_.contains(inode))
        return Error(Code::Busy, "the file is being detached with its device");
    ++pins_[inode];
    return {};
}

}  // namespace refault::store
