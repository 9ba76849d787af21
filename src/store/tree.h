// The namespace by inode numbers, as a mounted filesystem needs it: the same files, directories and
// rules as the paths of Store, which stand on the same code.
//
// Permissions are the caller's affair (a kernel checks them on its side); what only the pool knows
// is checked here. Errors carry the errno of the system call that asks: ENOENT, EEXIST, ENOTEMPTY,
// ENOTDIR, EISDIR, EMLINK, ENAMETOOLONG, ENODATA, EINVAL for a directory into itself; ESTALE for an
// inode that is gone.
//
// A remembered inode stays until it is forgotten, without any name too: what a kernel knows by its
// number does not become another file. Remembering is no opening: a file that is only remembered
// may leave the pool with its device, and is ESTALE then. Thread-safe (the store's lock); a caller
// holds no layout lock.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "store/store.h"

namespace refault::store {

class Tree {
  public:
    explicit Tree(Store& store) : store_(store) {}

    // ---- finding. "." and ".." too; ".." of the root is the root, "." of a file is the file.
    Result<Attributes> lookup(InodeNo directory, std::string_view name) const;
    Result<Attributes> stat(InodeNo inode) const { return store_.stat(inode); }
    // lookup, and one count more by which the inode is remembered.
    Result<Attributes> remember(InodeNo directory, std::string_view name);
    // What an earlier opening of the pool was told to remember. ESTALE when there is no such inode.
    Status remember(InodeNo inode, std::uint64_t count);
    void forget(InodeNo inode, std::uint64_t count);
    Result<std::string> target(InodeNo symlink) const;

    struct Name {
        std::string name;
        InodeNo inode;
        FileType type = FileType::Regular;
    };
    // Ascending by bytes, without "." and ".."; behind `after`, at most `count_max`: a large
    // directory is read in parts, in which what is there all the time is listed exactly once.
    Result<std::vector<Name>> names(InodeNo directory, std::string_view after = {},
                                    std::size_t count_max = SIZE_MAX) const;

    // ---- making and removing. What is made or linked is remembered once.
    using NewNode = store::NewNode;
    Result<Attributes> make(InodeNo directory, std::string_view name, const NewNode& node);
    // A file without a name, in the manner of O_TMPFILE; link() may give it one.
    Result<Attributes> make_unnamed(InodeNo directory, const NewNode& node);
    Result<Attributes> link(InodeNo inode, InodeNo directory, std::string_view name);
    Status unlink(InodeNo directory, std::string_view name);
    Status remove_directory(InodeNo directory, std::string_view name);
    using RenameMode = store::RenameMode;
    Status rename(InodeNo from_directory, std::string_view from, InodeNo to_directory,
                  std::string_view to, RenameMode mode);

    // ---- attributes. What is not given stays; changed_ns is now when it is not given.
    using AttributeChange = store::AttributeChange;
    Result<Attributes> change(InodeNo inode, const AttributeChange& change);
    // The bytes or the owner have changed: the set-user-id bit goes, and the set-group-id bit of
    // what its group can run. Not of directories. True when there was one to go.
    Result<bool> kill_privileges(InodeNo inode);
    // Somebody has read it: the access time in the manner of relatime, in memory until the next
    // checkpoint.
    void note_accessed(InodeNo inode);

    // Extended attributes: names of 1 to 255 bytes (ERANGE), values of at most 64 KiB (E2BIG), all
    // names of an inode at most 64 KiB (ENOSPC).
    enum class SetMode : std::uint8_t { Any, Create, Replace };
    Result<std::vector<std::uint8_t>> attribute(InodeNo inode, std::string_view name) const;
    Status set_attribute(InodeNo inode, std::string_view name, std::span<const std::uint8_t> value,
                         SetMode mode);
    Result<std::vector<std::string>> attribute_names(InodeNo inode) const;
    Status remove_attribute(InodeNo inode, std::string_view name);

    // ---- opening. Pins, in the manner of Store::open_file, for is_open and for devices that
    // leave; paired with one close. Busy while the file is being detached.
    Result<Attributes> open(InodeNo inode);
    void close(InodeNo inode) { store_.unpin(inode); }

    struct Usage {
        std::uint64_t capacity_bytes = 0;
        std::uint64_t free_bytes = 0;
        std::uint64_t inodes = 0;
    };
    Usage usage() const;

  private:
    Store& store_;
};

}  // namespace refault::store
