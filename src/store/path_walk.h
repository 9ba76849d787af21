// Paths and permissions over the state's directories, for one caller: who may find, make and remove
// which name. POSIX rules: search permission on every directory on the way, write permission to
// change one, sticky directories. Symbolic links are followed as a kernel does, where the root is
// the pool's: at most 40 of them, else ELOOP. Read-only; the store's lock is held as long as
// pointers from here are used.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/cred.h"
#include "store/state.h"

namespace refault::store {

// The names of an absolute path; Invalid for what is none. Repeated slashes count as one.
Result<std::vector<std::string_view>> split_path(std::string_view path);

// A name in a directory; `child` is nullptr when it is free, `name` empty for the root.
struct Place {
    const Inode* parent = nullptr;
    std::string name;
    const Inode* child = nullptr;
};

class PathWalk {
  public:
    PathWalk(const State& state, const Cred& who) : state_(state), who_(who) {}

    // What the path leads to, through a link at its end too.
    Result<const Inode*> find(const std::string& path) const;
    // The name at the end, which may be a link's. Invalid for "/", which has no name.
    Result<Place> place(const std::string& path) const;
    // NotFound when the name is free.
    Result<Place> existing(const std::string& path) const;

    Status may_change(const Inode& directory, const std::string& path) const;
    // Write permission on the directory, and the sticky rule: only the owners of the file and the
    // directory.
    Status may_remove(const Place& place, const std::string& path) const;
    // `want` as in base::may_access.
    Status may_access(const Inode& node, int want, const std::string& path) const;
    Status must_own(const Inode& node, const std::string& path) const;

  private:
    // Follows all names; of a link at the end only with `follows_last`.
    Result<Place> walk(std::span<const std::string_view> names, bool follows_last,
                       const std::string& path) const;
    Result<const Inode*> step(const Inode& directory, std::string_view name,
                              const std::string& path) const;

    const State& state_;
    const Cred& who_;
};

}  // namespace refault::store
