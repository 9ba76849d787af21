// Which inodes programs have open through the mount, and how: either through the kernel's page
// cache or past it. Both at once would show stale pages, so an inode is one or the other as long as
// anybody has it open:
//
//   closed --open--> cached     pages are cached and can be mapped; a client's mapping is refused
//   closed --open, while a client maps it or is about to--> direct    read and written in place
//
// A mapping keeps its file open, so a cached inode that is closed has no mapped pages either. There
// is one table for the life of a pool, whatever is mounted meanwhile: claims are made at any time.
// Thread-safe; mutex_ is taken before Registry::mutex_ and Store::mutex_.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "mount/handed_over.h"
#include "session/registry.h"
#include "store/tree.h"

namespace refault::mount {

enum class OpenMode : std::uint8_t {
    Cached,
    // Cached, and the kernel drops the pages that it has from before: the inode was open past the
    // cache. Private mappings, and what is executed, fill the cache there too, and what a client
    // stores is not taken out of it.
    CachedAnew,
    Direct,
};

class OpenInodes {
  public:
    OpenInodes(store::Tree& tree, const session::Registry& registry)
        : tree_(tree), registry_(registry) {}

    // Pins the inode; paired with close.
    base::Result<OpenMode> open(base::InodeNo inode);
    // The kernel has no pages of it any more.
    void forgotten(base::InodeNo inode);
    void close(base::InodeNo inode, OpenMode mode);
    // The same where the kernel never got the answer to its open, or asked for none.
    void abandon(base::InodeNo inode, OpenMode mode);
    // Whatever programs had open when a connection ended. No request is under way any more.
    void close_all();

    // Busy when it is open through the cache. Until unclaim no open goes through the cache.
    base::Status claim(base::InodeNo inode);
    void unclaim(base::InodeNo inode);

    // While no request is under way. The claims that are handed over are those of clients that map
    // a file, or are about to.
    std::vector<OpenInode> hand_over() const;
    // Pins again what was open. Once, before anything else is asked; the claims last until
    // unclaim().
    void take_over(const std::vector<OpenInode>& opens);

    bool is_open(base::InodeNo inode) const;
    std::vector<base::InodeNo> cached() const;
    std::size_t count() const;

  private:
    struct Uses {
        std::uint32_t cached = 0;
        std::uint32_t direct = 0;
        std::uint32_t claims = 0;
        bool was_direct = false;
        bool was_dropped = false;
    };
    bool take_off_locked(base::InodeNo inode, OpenMode mode) REQUIRES(mutex_);
    void drop_if_unused_locked(base::InodeNo inode) REQUIRES(mutex_);

    store::Tree& tree_;
    const session::Registry& registry_;
    mutable base::Mutex mutex_{base::LockRank::OpenInodes};
    std::unordered_map<base::InodeNo, Uses> uses_ GUARDED_BY(mutex_);
};

}  // namespace refault::mount
