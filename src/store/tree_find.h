// Names by the number of their directory. Read-only; the store's lock is held as long as pointers
// from here are used.
#pragma once

#include <string_view>

#include "store/path_walk.h"

namespace refault::store {

// ESTALE: an inode that is gone, or has left with its device.
base::Error stale(InodeNo inode);
Result<const Inode*> find_directory(const State& state, InodeNo directory);
// The name may be free. "." and ".." are no names here.
Result<Place> find_place(const State& state, InodeNo directory, std::string_view name);
// The same for what is to be made: a directory that was removed takes no names.
Result<Place> find_living_place(const State& state, InodeNo directory, std::string_view name);
// "." and "..", too; ENOENT when the name is free.
Result<Place> find_existing(const State& state, InodeNo directory, std::string_view name);

}  // namespace refault::store
