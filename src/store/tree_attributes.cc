// Attributes, times and extended attributes of inodes.
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

constexpr std::size_t kListBytesMax = 64 * 1024;
constexpr std::uint64_t kDayNs = 24 * 3600 * 1'000'000'000ull;

Error no_attribute(std::string_view name) {
    return Error(Code::NotFound, "there is no attribute " + std::string(name), ENODATA);
}

const std::vector<std::uint8_t>* find_extended(const Inode& node, std::string_view name) {
    if (!node.rare) return nullptr;
    const auto found = node.rare->extended.find(name);
    return found == node.rare->extended.end() ? nullptr : &found->second;
}

// What a list of all names takes: each with its end.
std::size_t list_bytes(const Inode& node) {
    std::size_t sum = 0;
    if (node.rare)
        for (const auto& [name, value] : node.rare->extended) sum += name.size() + 1;
    return sum;
}

Status check_size(std::string_view name, std::size_t value_bytes) {
    if (name.empty() || name.size() > kNameBytesMax || name.find('\0') != name.npos)
        return Error(Code::Invalid, "the name of an attribute has 1 to 255 bytes", ERANGE);
    if (value_bytes > kValueBytesMax)
        return Error(Code::Invalid, "the value of an attribute has at most 64 KiB", E2BIG);
    return {};
}

}  // namespace

Status Store::change_attributes_locked(const Inode& node, const AttributeChange& wanted) {
    auto changed = node.attributes;
    changed.mode = wanted.mode.value_or(changed.mode) & kModeBits;
    changed.uid = wanted.uid.value_or(changed.uid);
    changed.gid = wanted.gid.value_or(changed.gid);
    changed.accessed_ns = wanted.accessed_ns.value_or(changed.accessed_ns);
    changed.modified_ns = wanted.modified_ns.value_or(changed.modified_ns);
    changed.changed_ns = wanted.changed_ns.value_or(now_ns());
    Change change;
    if (wanted.mode || wanted.uid || wanted.gid)
        change.operations.push_back(op::UpdateInode{changed});
    if (change.operations.empty() || wanted.accessed_ns)
        change.operations.push_back(op::SetTimes{changed.inode, changed.accessed_ns,
                                                 changed.modified_ns, changed.changed_ns});
    return commit_locked(change);
}

Result<Attributes> Tree::change(InodeNo inode, const AttributeChange& change) {
    MutexLock lock(store_.mutex_);
    const auto* node = store_.state_->inode(inode);
    if (node == nullptr) return stale(inode);
    RETURN_IF_ERROR(store_.change_attributes_locked(*node, change));
    return node->attributes;
}

Result<bool> Tree::kill_privileges(InodeNo inode) {
    MutexLock lock(store_.mutex_);
    const auto* node = store_.state_->inode(inode);
    if (node == nullptr) return stale(inode);
    if (node->is_directory()) return false;
    const auto mode = node->attributes.mode;
    auto left = mode & ~kSetuid;
    if (mode & kGroupExecute) left &= ~kSetgid;
    if (left == mode) return false;
    AttributeChange change;
    change.mode = left;
    RETURN_IF_ERROR(store_.change_attributes_locked(*node, change));
    return true;
}

void Tree::note_accessed(InodeNo inode) {
    MutexLock lock(store_.mutex_);
    const auto* node = store_.state_->inode(inode);
    if (node == nullptr) return;
    const auto& a = node->attributes;
    const auto now = now_ns();
    if (a.accessed_ns > a.modified_ns && a.accessed_ns > a.changed_ns &&
        a.accessed_ns + kDayNs > now)
        return;
    CHECK(store_.state_->apply(op::SetTimes{inode, now, a.modified_ns, a.changed_ns}).ok());
}

Result<std::vector<std::uint8_t>> Tree::attribute(InodeNo inode, std::string_view name) const {
    MutexLock lock(store_.mutex_);
    const auto* node = store_.state_->inode(inode);
    if (node == nullptr) return stale(inode);
    const auto* value = find_extended(*node, name);
    if (value == nullptr) return no_attribute(name);
    return *value;
}

Status Tree::set_attribute(InodeNo inode, std::string_view name,
                           std::span<const std::uint8_t> value, SetMode mode) {
    RETURN_IF_ERROR(check_size(name, value.size()));
    MutexLock lock(store_.mutex_);
    const auto* node = store_.state_->inode(inode);
    if (node == nullptr) return stale(inode);
    const bool is_there = find_extended(*node, name) != nullptr;
    if (is_there && mode == SetMode::Create)
        return Error(Code::Exists, "the attribute is there already");
    if (!is_there && mode == SetMode::Replace) return no_attribute(name);
    if (!is_there && list_bytes(*node) + name.size() + 1 > kListBytesMax)
        return Error(Code::NoSpace, "an inode has at most 64 KiB of names of attributes");
    Change change;
    change.operations = {op::SetExtended{inode, std::string(name), {value.begin(), value.end()}},
                         changed_at(*node, now_ns())};
    return store_.commit_locked(change);
}

Result<std::vector<std::string>> Tree::attribute_names(InodeNo inode) const {
    MutexLock lock(store_.mutex_);
    const auto* node = store_.state_->inode(inode);
    if (node == nullptr) return stale(inode);
    std::vector<std::string> names;
    if (node->rare)
        for (const auto& [name, value] : node->rare->extended) names.push_back(name);
    return names;
}

Status Tree::remove_attribute(InodeNo inode, std::string_view name) {
    MutexLock lock(store_.mutex_);
    const auto* node = store_.state_->inode(inode);
    if (node == nullptr) return stale(inode);
    if (find_extended(*node, name) == nullptr) return no_attribute(name);
    Change change;
    change.operations = {op::RemoveExtended{inode, std::string(name)}, changed_at(*node, now_ns())};
    return store_.commit_locked(change);
}

}  // namespace refault::store
