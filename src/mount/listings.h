// The open directories of a mount, by the numbers that the kernel has for them. A listing goes by
// names, in parts: what is there all the time is seen exactly once, however the directory changes,
// and a directory of a million names is never held as a whole.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "mount/handed_over.h"
#include "store/tree.h"

namespace refault::mount {

// One open directory. The kernel has one reader of it at a time, and says so by a lock of its own
// (fs/fuse/readdir.c, fuse_readdir).
class Listing {
  public:
    Listing() = default;
    explicit Listing(std::vector<std::string> starts);

    // The name with this number (from 0); null behind the last one.
    base::Result<const store::Tree::Name*> at(store::Tree& tree, base::InodeNo directory,
                                              std::uint64_t number);
    const std::vector<std::string>& starts() const { return starts_; }

  private:
    base::Status read_part(store::Tree& tree, base::InodeNo directory, std::uint64_t part);

    std::vector<std::string> starts_{""};  // of each part, the name before it
    std::vector<store::Tree::Name> names_;
    std::uint64_t part_ = 0;
    bool is_read_ = false;
};

// Thread-safe; mutex_ is a leaf.
class Listings {
  public:
    std::uint64_t open();
    void close(std::uint64_t number);
    // Null for a number that was never given out.
    std::shared_ptr<Listing> find(std::uint64_t number) const;

    // While no request is under way.
    std::vector<OpenListing> hand_over() const;
    void take_over(std::vector<OpenListing> listings);

  private:
    mutable base::Mutex mutex_;
    std::unordered_map<std::uint64_t, std::shared_ptr<Listing>> listings_ GUARDED_BY(mutex_);
    std::uint64_t last_ GUARDED_BY(mutex_) = 0;
};

}  // namespace refault::mount
