// Finding names and judging who may do what with them.
#include "store/path_walk.h"

#include <cerrno>

namespace refault::store {

using base::Code;
using base::Error;

namespace {
constexpr int kSearch = 1;
constexpr int kWrite = 2;
constexpr mode_t kSticky = 01000;
}  // namespace

Result<std::vector<std::string_view>> split_path(std::string_view path) {
    if (!path.starts_with('/'))
        return Error(Code::Invalid, "not an absolute path: '" + std::string(path) + "'");
    std::vector<std::string_view> names;
    while (!path.empty()) {
        path.remove_prefix(1);
        const auto name = path.substr(0, path.find('/'));
        path.remove_prefix(name.size());
        if (name.empty()) continue;
        if (name.size() > kNameBytesMax)
            return Error(
                Code::Invalid,
                "a name has at most 255 bytes: '" + std::string(name.substr(0, 40)) + "...'",
                ENAMETOOLONG);
        if (!is_valid_name(name))
            return Error(Code::Invalid, "not a name: '" + std::string(name) + "'");
        names.push_back(name);
    }
    return names;
}

Result<const Inode*> PathWalk::walk(std::span<const std::string_view> names,
                                    const std::string& path) const {
    const Inode* node = state_.inode(base::kRootInode);
    CHECK(node != nullptr);
    for (const auto name : names) {
        if (!node->is_directory())
            return Error(Code::Invalid, path + ": a part of it is not a directory", ENOTDIR);
        RETURN_IF_ERROR(may_access(*node, kSearch, path));
        const auto entry = node->children->find(name);
        if (entry == node->children->end()) return Error(Code::NotFound, "there is no " + path);
        node = state_.inode(entry->second);
        CHECK(node != nullptr);
    }
    return node;
}

Result<const Inode*> PathWalk::find(const std::string& path) const {
    const auto names = split_path(path);
    if (!names) return names.error();
    return walk(*names, path);
}

Result<PathWalk::Place> PathWalk::place(const std::string& path) const {
    const auto names = split_path(path);
    if (!names) return names.error();
    if (names->empty()) return Error(Code::Invalid, "the root directory stays as it is", EBUSY);
    const auto parent = walk(std::span(*names).first(names->size() - 1), path);
    if (!parent) return parent.error();
    if (!(*parent)->is_directory())
        return Error(Code::Invalid, path + ": a part of it is not a directory", ENOTDIR);
    RETURN_IF_ERROR(may_access(**parent, kSearch, path));
    Place place{*parent, std::string(names->back()), nullptr};
    const auto entry = (*parent)->children->find(place.name);
    if (entry != (*parent)->children->end()) place.child = state_.inode(entry->second);
    return place;
}

Result<PathWalk::Place> PathWalk::existing(const std::string& path) const {
    auto found = place(path);
    if (found && found->child == nullptr) return Error(Code::NotFound, "there is no " + path);
    return found;
}

Status PathWalk::may_access(const Inode& node, int want, const std::string& path) const {
    const auto& a = node.attributes;
    if (base::may_access(who_, a.uid, a.gid, a.mode, want)) return {};
    return Error(Code::Denied,
                 "user " + std::to_string(who_.uid) + " has no permission for " + path);
}

Status PathWalk::may_change(const Inode& directory, const std::string& path) const {
    return may_access(directory, kWrite | kSearch, path);
}

Status PathWalk::may_remove(const Place& place, const std::string& path) const {
    RETURN_IF_ERROR(may_change(*place.parent, path));
    const auto& directory = place.parent->attributes;
    if ((directory.mode & kSticky) == 0 || who_.uid == 0 || who_.uid == directory.uid ||
        who_.uid == place.child->attributes.uid)
        return {};
    return Error(Code::Denied,
                 path + " belongs to another user, in a directory where only owners remove", EPERM);
}

Status PathWalk::must_own(const Inode& node, const std::string& path) const {
    if (who_.uid == 0 || who_.uid == node.attributes.uid) return {};
    return Error(Code::Denied, "only the owner of " + path + " or root may do this", EPERM);
}

}  // namespace refault::store
