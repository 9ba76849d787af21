// Looking names up in a directory that is known by its number.
#include "store/tree_find.h"

#include <cerrno>

namespace refault::store {

using base::Code;
using base::Error;

Error stale(InodeNo inode) {
    return Error(Code::NotFound, "there is no inode " + std::to_string(inode.raw()), ESTALE);
}

Result<const Inode*> find_directory(const State& state, InodeNo directory) {
    const auto* node = state.inode(directory);
    if (node == nullptr) return stale(directory);
    if (!node->is_directory()) return Error(Code::Invalid, "the inode is no directory", ENOTDIR);
    return node;
}

Result<Place> find_place(const State& state, InodeNo directory, std::string_view name) {
    const auto node = find_directory(state, directory);
    if (!node) return node.error();
    if (name.size() > kNameBytesMax)
        return Error(Code::Invalid, "a name has at most 255 bytes", ENAMETOOLONG);
    if (!is_valid_name(name))
        return Error(Code::Invalid, "not a name: '" + std::string(name) + "'", EINVAL);
    const auto entry = (*node)->children->find(name);
    const auto* child = entry == (*node)->children->end() ? nullptr : state.inode(entry->second);
    return Place{*node, std::string(name), child};
}

Result<Place> find_living_place(const State& state, InodeNo directory, std::string_view name) {
    auto place = find_place(state, directory, name);
    if (place && !place->parent->is_named())
        return Error(Code::NotFound, "the directory was removed", ENOENT);
    return place;
}

Result<Place> find_existing(const State& state, InodeNo directory, std::string_view name) {
    // Also of what is no directory: that is how a kernel asks for an inode that it has forgotten.
    if (name == ".") {
        const auto* node = state.inode(directory);
        if (node == nullptr || !node->is_named()) return stale(directory);
        return Place{node, ".", node};
    }
    if (name == "..") {
        const auto node = find_directory(state, directory);
        if (!node) return node.error();
        const auto* found = state.inode((*node)->parent);
        if (found == nullptr) return Error(Code::NotFound, "the directory was removed", ENOENT);
        return Place{*node, std::string(name), found};
    }
    auto place = find_place(state, directory, name);
    if (place && place->child == nullptr)
        return Error(Code::NotFound, "there is no " + place->name, ENOENT);
    return place;
}

}  // namespace refault::store
