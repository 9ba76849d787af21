#include "store/store.h"
namespace refault::store {
using base::Error; using base::Code;
Status Store::set_size(InodeNo inode, std::uint64_t size_bytes) { return resize(inode, size_bytes); }
Status Store::allocate(InodeNo, FileRange, Growth) { return {}; }
Status Store::deallocate(InodeNo inode, FileRange range) { return punch(inode, range); }
Result<std::size_t> Store::write_growing(InodeNo, std::uint64_t, std::span<const std::uint8_t>) {
    return Error(Code::NotSupported, "not yet");
}
Result<std::uint64_t> Store::next_data(InodeNo, std::uint64_t) const { return Error(Code::NotSupported, "not yet"); }
Result<std::uint64_t> Store::next_hole(InodeNo, std::uint64_t) const { return Error(Code::NotSupported, "not yet"); }
}
