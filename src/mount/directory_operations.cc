// Listing directories (listings.h). An entry's offset is its number in the listing; 0 and 1 are "."
// and "..".
#include <cerrno>
#include <string>
#include <vector>

#include "mount/context.h"

namespace refault::mount {

namespace {

using base::InodeNo;
using store::Tree;

constexpr std::uint64_t kDots = 2;

void opendir(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
    auto& listings = context_of(request).listings;
    info->fh = listings.open();
    // The kernel keeps no listing for others: the numbers in it are those of one open directory,
    // and who went on by the listing of another would miss names, or see them twice.
    info->cache_readdir = 0;
    if (fuse_reply_open(request, info) != 0) listings.close(info->fh);
}

void releasedir(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
    context_of(request).listings.close(info->fh);
    fuse_reply_err(request, 0);
}

// Fills one reply.
class Entries {
  public:
    Entries(fuse_req_t request, std::size_t size, bool has_attributes)
        : request_(request),
          context_(context_of(request)),
          buffer_(size),
          has_attributes_(has_attributes) {}

    // False when it does not fit any more.
    bool add(InodeNo directory, const Tree::Name& name, std::uint64_t next_offset, bool is_dot) {
        return has_attributes_ ? add_full(directory, name, next_offset, is_dot)
                               : add_short(name, next_offset);
    }
    bool empty() const { return used_ == 0; }
    // Who has given up meanwhile does not get them, and will not forget them either.
    void reply() {
        if (fuse_reply_buf(request_, buffer_.data(), used_) == 0) return;
        for (const auto inode : remembered_) context_.remembered.forget(inode, 1);
    }

  private:
    bool add_short(const Tree::Name& name, std::uint64_t next_offset) {
        store::Attributes attributes;
        attributes.inode = name.inode;
        attributes.type = name.type;
        const auto status = stat_of(attributes);
        return take(fuse_add_direntry(request_, buffer_.data() + used_, buffer_.size() - used_,
                                      name.name.c_str(), &status, static_cast<off_t>(next_offset)));
    }
    // Each entry but the dots is a lookup, which the kernel forgets like any other.
    bool add_full(InodeNo directory, const Tree::Name& name, std::uint64_t next_offset,
                  bool is_dot) {
        const auto needed =
            fuse_add_direntry_plus(request_, nullptr, 0, name.name.c_str(), nullptr, 0);
        if (needed > buffer_.size() - used_) return false;
        fuse_entry_param entry{};
        if (is_dot) {
            store::Attributes attributes;
            attributes.inode = name.inode;
            attributes.type = name.type;
            entry.attr = stat_of(attributes);
        } else {
            const auto found = context_.tree.remember(directory, name.name);
            // Removed since the listing was read.
            if (!found) return true;
            context_.remembered.add(found->inode);
            remembered_.push_back(found->inode);
            entry = entry_of(*found);
        }
        return take(fuse_add_direntry_plus(request_, buffer_.data() + used_, buffer_.size() - used_,
                                           name.name.c_str(), &entry,
                                           static_cast<off_t>(next_offset)));
    }
    bool take(std::size_t needed) {
        if (needed > buffer_.size() - used_) return false;
        used_ += needed;
        return true;
    }

    const fuse_req_t request_;
    Context& context_;  // there when the request is not any more
    std::vector<InodeNo> remembered_;
    std::vector<char> buffer_;
    std::size_t used_ = 0;
    bool has_attributes_;
};

void list(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset,
          fuse_file_info* info, bool has_attributes) {
    auto& tree = context_of(request).tree;
    const auto directory = inode_of(inode);
    const auto listing = context_of(request).listings.find(info->fh);
    if (!listing) return (void)fuse_reply_err(request, EBADF);
    Entries entries(request, size, has_attributes);
    for (auto number = static_cast<std::uint64_t>(offset);; ++number) {
        if (number < kDots) {
            const char* dot = number == 0 ? "." : "..";
            const auto found = tree.lookup(directory, dot);
            const auto to = found ? found->inode : directory;
            if (!entries.add(directory, {dot, to, store::FileType::Directory}, number + 1, true))
                break;
            continue;
        }
        const auto name = listing->at(tree, directory, number - kDots);
        // What was found before the error counts; the kernel goes on from there, and gets it.
        if (!name && entries.empty()) return reply_error(request, name.error());
        if (!name || *name == nullptr || !entries.add(directory, **name, number + 1, false)) break;
    }
    entries.reply();
}

void readdir(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset,
             fuse_file_info* info) {
    list(request, inode, size, offset, info, /*has_attributes=*/false);
}

void readdirplus(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset,
                 fuse_file_info* info) {
    list(request, inode, size, offset, info, /*has_attributes=*/true);
}

// Every change of a directory is on the metadata devices before it is answered.
void fsyncdir(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) {
    fuse_reply_err(request, 0);
}

}  // namespace

void add_directory_operations(fuse_lowlevel_ops& operations) {
    operations.opendir = opendir;
    operations.releasedir = releasedir;
    operations.readdir = readdir;
    operations.readdirplus = readdirplus;
    operations.fsyncdir = fsyncdir;
}

}  // namespace refault::mount
