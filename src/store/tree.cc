// Finding, keeping and removing by inode numbers.
#include "store/tree.h"

#include <cerrno>

#include "store/allocator.h"
#include "store/rename.h"
#include "store/tree_find.h"

namespace refault::store {

using base::Code;
using base::Error;
using base::MutexLock;

Result<Attributes> Tree::lookup(InodeNo directory, std::string_view name) const {
    MutexLock lock(store_.mutex_);
    const auto found = find_existing(*store_.state_, directory, name);
    if (!found) return found.error();
    return found->child->attributes;
}

Result<Attributes> Tree::remember(InodeNo directory, std::string_view name) {
    MutexLock lock(store_.mutex_);
    const auto found = find_existing(*store_.state_, directory, name);
    if (!found) return found.error();
    ++store_.remembered_[found->child->attributes.inode];
    return found->child->attributes;
}

Status Tree::remember(InodeNo inode, std::uint64_t count) {
    MutexLock lock(store_.mutex_);
    if (store_.state_->inode(inode) == nullptr) return stale(inode);
    store_.remembered_[inode] += count;
    return {};
}

void Tree::forget(InodeNo inode, std::uint64_t count) {
    if (count > 0) store_.let_go(inode, Store::Hold::Memory, count);
}

Result<std::string> Tree::target(InodeNo symlink) const {
    MutexLock lock(store_.mutex_);
    const auto* node = store_.state_->inode(symlink);
    if (node == nullptr) return stale(symlink);
    if (!node->is_symlink()) return Error(Code::Invalid, "the inode is no symbolic link", EINVAL);
    return node->target();
}

Result<std::vector<Tree::Name>> Tree::names(InodeNo directory, std::string_view after,
                                            std::size_t count_max) const {
    MutexLock lock(store_.mutex_);
    const auto node = find_directory(*store_.state_, directory);
    if (!node) return node.error();
    const auto& children = *(*node)->children;
    std::vector<Name> names;
    names.reserve(std::min(count_max, children.size()));
    for (auto at = children.upper_bound(after); at != children.end() && names.size() < count_max;
         ++at)
        names.push_back({at->first, at->second, store_.state_->inode(at->second)->attributes.type});
    return names;
}

Status Tree::unlink(InodeNo directory, std::string_view name) {
    return store_.remove_name(
        [&](const State& state) { return find_place(state, directory, name); },
        /*is_directory=*/false);
}

Status Tree::remove_directory(InodeNo directory, std::string_view name) {
    return store_.remove_name(
        [&](const State& state) { return find_place(state, directory, name); },
        /*is_directory=*/true);
}

Status Tree::rename(InodeNo from_directory, std::string_view from, InodeNo to_directory,
                    std::string_view to, RenameMode mode) {
    Store::Renaming renaming;
    renaming.from = [&](const State& state) { return find_place(state, from_directory, from); };
    renaming.to = [&](const State& state) { return find_living_place(state, to_directory, to); };
    renaming.judge = [](const State&, const Place&, const Place&) { return Status(); };
    renaming.mode = mode;
    return store_.rename_name(renaming);
}

Result<Attributes> Tree::open(InodeNo inode) {
    MutexLock lock(store_.mutex_);
    const auto* node = store_.state_->inode(inode);
    if (node == nullptr) return stale(inode);
    if (store_.detaching_.contains(inode))
        return Error(Code::Busy, "the file is being detached with its device");
    ++store_.pins_[inode];
    return node->attributes;
}

Tree::Usage Tree::usage() const {
    MutexLock lock(store_.mutex_);
    Usage usage;
    for (const auto& [id, device] : store_.state_->devices()) {
        usage.capacity_bytes += device.map.capacity_bytes();
        usage.free_bytes += store_.allocator_->free_bytes(id);
    }
    usage.inodes = store_.state_->inodes().size();
    return usage;
}

}  // namespace refault::store
