// One rename, of paths or of inode numbers: how both names are found, and what is asked of them
// first. Value type.
#pragma once

#include "store/path_walk.h"
#include "store/store.h"

namespace refault::store {

struct Store::Renaming {
    FindName from;
    FindName to;
    // Says whether the one who asks may do it; called with two names of different inodes.
    JudgeNames judge;
    RenameMode mode = RenameMode::Replace;
};

}  // namespace refault::store
