// Making inodes and giving them names.
#include <cerrno>

#include "store/change.h"
#include "store/clock.h"
#include "store/metadata_log.h"
#include "store/name_times.h"
#include "store/tree.h"
#include "store/tree_find.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::MutexLock;

namespace {

constexpr std::uint32_t kLinksMax = 65'000;  // of one file

Attributes attributes_of(const NewNode& node, const Attributes& directory, InodeNo inode) {
    Attributes made;
    made.inode = inode;
    made.type = node.type;
    made.mode = node.mode & kModeBits;
    made.uid = node.uid;
    made.gid = node.gid;
    if (directory.mode & kSetgid) {
        made.gid = directory.gid;
        if (node.type == FileType::Directory)
            made.mode |= kSetgid;
        else if (node.uid != 0 && node.gid != directory.gid && (made.mode & kGroupExecute))
            made.mode &= ~kSetgid;  // nobody makes programs of a group that is not his own
    }
    made.size_bytes = node.target.size();
    made.replicas = directory.replicas;
    made.on_loss = directory.on_loss;
    made.modified_ns = made.changed_ns = made.created_ns = now_ns();
    return made;
}

Status check_target(const NewNode& node) {
    if (node.type != FileType::Symlink) return {};
    if (node.target.empty()) return Error(Code::Invalid, "a symbolic link needs a target", ENOENT);
    if (node.target.size() > kTargetBytesMax)
        return Error(Code::Invalid, "the target of a link has at most 4095 bytes", ENAMETOOLONG);
    return {};
}

}  // namespace

Result<Attributes> Store::make_locked(const Place& place, const NewNode& node) {
    RETURN_IF_ERROR(check_target(node));
    const auto& directory = place.parent->attributes;
    const auto made = attributes_of(node, directory, state_->next_inode());
    Change change;
    change.operations.push_back(op::CreateInode{made});
    const bool is_device = node.type == FileType::CharDevice || node.type == FileType::BlockDevice;
    if (node.type == FileType::Symlink || (is_device && node.device != 0))
        change.operations.push_back(op::SetNode{made.inode, is_device ? node.device : 0,
                                                is_device ? std::string() : node.target});
    if (!place.name.empty()) {
        change.operations.push_back(op::LinkName{directory.inode, place.name, made.inode});
        change.operations.push_back(modified_at(*place.parent, made.created_ns));
    }
    RETURN_IF_ERROR(commit_locked(change));
    return state_->inode(made.inode)->attributes;
}

Result<Attributes> Tree::make(InodeNo directory, std::string_view name, const NewNode& node) {
    MutexLock lock(store_.mutex_);
    const auto place = find_living_place(*store_.state_, directory, name);
    if (!place) return place.error();
    if (place->child != nullptr) return Error(Code::Exists, place->name + " exists already");
    auto made = store_.make_locked(*place, node);
    if (made) store_.remembered_[made->inode] = 1;
    return made;
}

Result<Attributes> Tree::make_unnamed(InodeNo directory, const NewNode& node) {
    MutexLock lock(store_.mutex_);
    const auto parent = find_directory(*store_.state_, directory);
    if (!parent) return parent.error();
    if (!(*parent)->is_named()) return Error(Code::NotFound, "the directory was removed", ENOENT);
    if (node.type != FileType::Regular)
        return Error(Code::Invalid, "only files can be without a name", EINVAL);
    auto made = store_.make_locked({*parent, "", nullptr}, node);
    if (made) store_.remembered_[made->inode] = 1;
    return made;
}

Result<Attributes> Tree::link(InodeNo inode, InodeNo directory, std::string_view name) {
    MutexLock lock(store_.mutex_);
    const auto* node = store_.state_->inode(inode);
    if (node == nullptr) return stale(inode);
    if (node->is_directory()) return Error(Code::Denied, "a directory has one name alone", EPERM);
    const auto place = find_living_place(*store_.state_, directory, name);
    if (!place) return place.error();
    if (place->child != nullptr) return Error(Code::Exists, place->name + " exists already");
    if (node->attributes.links >= kLinksMax)
        return Error(Code::Invalid, "the file has as many names as it can", EMLINK);
    const auto now = now_ns();
    Change change;
    change.operations = {op::LinkName{directory, place->name, inode},
                         modified_at(*place->parent, now), changed_at(*node, now)};
    RETURN_IF_ERROR(store_.commit_locked(change));
    ++store_.remembered_[inode];
    return node->attributes;
}

}  // namespace refault::store
