// The namespace by inode numbers.
#include "store/tree.h"

namespace refault::store {

using base::Code;
using base::Error;

namespace {
Error not_yet() {
    return Error(Code::NotSupported, "not there yet");
}
}  // namespace

Result<Attributes> Tree::lookup(InodeNo, std::string_view) const { return not_yet(); }
Result<Attributes> Tree::remember(InodeNo, std::string_view) { return not_yet(); }
void Tree::forget(InodeNo, std::uint64_t) {}
Result<std::string> Tree::target(InodeNo) const { return not_yet(); }
Result<std::vector<Tree::Name>> Tree::names(InodeNo, std::string_view, std::size_t) const {
    return not_yet();
}
Result<Attributes> Tree::make(InodeNo, std::string_view, const NewNode&) { return not_yet(); }
Result<Attributes> Tree::make_unnamed(InodeNo, const NewNode&) { return not_yet(); }
Result<Attributes> Tree::link(InodeNo, InodeNo, std::string_view) { return not_yet(); }
Status Tree::unlink(InodeNo, std::string_view) { return not_yet(); }
Status Tree::remove_directory(InodeNo, std::string_view) { return not_yet(); }
Status Tree::rename(InodeNo, std::string_view, InodeNo, std::string_view, RenameMode) {
    return not_yet();
}
Result<Attributes> Tree::change(InodeNo, const AttributeChange&) { return not_yet(); }
void Tree::note_accessed(InodeNo) {}
Result<std::vector<std::uint8_t>> Tree::attribute(InodeNo, std::string_view) const {
    return not_yet();
}
Status Tree::set_attribute(InodeNo, std::string_view, std::span<const std::uint8_t>, SetMode) {
    return not_yet();
}
Result<std::vector<std::string>> Tree::attribute_names(InodeNo) const { return not_yet(); }
Status Tree::remove_attribute(InodeNo, std::string_view) { return not_yet(); }
Result<Attributes> Tree::open(InodeNo) { return not_yet(); }
Tree::Usage Tree::usage() const { return {}; }

Status Store::set_size(InodeNo inode, std::uint64_t size_bytes) { return resize(inode, size_bytes); }
Status Store::allocate(InodeNo, FileRange, Growth) { return {}; }
Status Store::deallocate(InodeNo inode, FileRange range) { return punch(inode, range); }
Result<std::size_t> Store::write_growing(InodeNo, std::uint64_t, std::span<const std::uint8_t>) {
    return not_yet();
}
Result<std::uint64_t> Store::next_data(InodeNo, std::uint64_t) const { return not_yet(); }
Result<std::uint64_t> Store::next_hole(InodeNo, std::uint64_t) const { return not_yet(); }
std::vector<std::string> Store::paths_of(InodeNo inode) const { return {path_of(inode)}; }

}  // namespace refault::store
