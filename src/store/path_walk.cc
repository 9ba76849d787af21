// Finding names and judging who may do what with them.
#include "store/path_walk.h"

#include <algorithm>
#include <cerrno>

namespace refault::store {

using base::Code;
using base::Error;

namespace {
constexpr int kSearch = 1;
constexpr int kWrite = 2;
constexpr mode_t kSticky = 01000;
constexpr int kLinksMax = 40;

std::vector<std::string_view> split(std::string_view path) {
    std::vector<std::string_view> names;
    while (!path.empty()) {
        const auto name = path.substr(0, path.find('/'));
        path.remove_prefix(std::min(path.size(), name.size() + 1));
        if (!name.empty()) names.push_back(name);
    }
    return names;
}
}  // namespace

Result<std::vector<std::string_view>> split_path(std::string_view path) {
    if (!path.starts_with('/'))
        return Error(Code::Invalid, "not an absolute path: '" + std::string(path) + "'");
    auto names = split(path);
    for (const auto name : names) {
        if (name.size() > kNameBytesMax)
            return Error(
                Code::Invalid,
                "a name has at most 255 bytes: '" + std::string(name.substr(0, 40)) + "...'",
                ENAMETOOLONG);
        if (!is_valid_name(name))
            return Error(Code::Invalid, "not a name: '" + std::string(name) + "'");
    }
    return names;
}

// The child, nullptr when the name is free. "." and ".." come from targets of links.
Result<const Inode*> PathWalk::step(const Inode& directory, std::string_view name,
                                    const std::string& path) const {
    if (!directory.is_directory())
        return Error(Code::Invalid, path + ": a part of it is not a directory", ENOTDIR);
    RETURN_IF_ERROR(may_access(directory, kSearch, path));
    if (name == ".") return &directory;
    if (name == "..") return state_.inode(directory.parent);
    const auto entry = directory.children->find(name);
    return entry == directory.children->end() ? nullptr : state_.inode(entry->second);
}

Result<Place> PathWalk::walk(std::span<const std::string_view> names, bool follows_last,
                             const std::string& path) const {
    const Inode* const root = state_.inode(base::kRootInode);
    CHECK(root != nullptr);
    Place at{root, "", root};
    std::vector<std::string_view> ahead(names.rbegin(), names.rend());
    for (int links = 0; !ahead.empty();) {
        const auto name = ahead.back();
        ahead.pop_back();
        if (at.child == nullptr) {
            const auto above = state_.path_of(at.parent->attributes.inode);
            return Error(Code::NotFound,
                         "there is no " + (above == "/" ? "" : above) + "/" + at.name);
        }
        const auto child = step(*at.child, name, path);
        if (!child) return child.error();
        const bool is_link = *child != nullptr && (*child)->is_symlink();
        if (!is_link || (ahead.empty() && !follows_last)) {
            at = {at.child, std::string(name), *child};
            continue;
        }
        if (++links > kLinksMax)
            return Error(Code::Invalid, path + " leads through too many symbolic links", ELOOP);
        const std::string_view target = (*child)->target();
        if (target.starts_with('/')) at.child = root;
        const auto parts = split(target);
        ahead.insert(ahead.end(), parts.rbegin(), parts.rend());
    }
    return at;
}

Result<const Inode*> PathWalk::find(const std::string& path) const {
    const auto names = split_path(path);
    if (!names) return names.error();
    const auto found = walk(*names, /*follows_last=*/true, path);
    if (!found) return found.error();
    if (found->child == nullptr) return Error(Code::NotFound, "there is no " + path);
    return found->child;
}

Result<Place> PathWalk::place(const std::string& path) const {
    const auto names = split_path(path);
    if (!names) return names.error();
    if (names->empty()) return Error(Code::Invalid, "the root directory stays as it is", EBUSY);
    return walk(*names, /*follows_last=*/false, path);
}

Result<Place> PathWalk::existing(const std::string& path) const {
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
