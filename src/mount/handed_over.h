// What a mount hands to the daemon that takes the place of its own: the connection, which stays
// open meanwhile (the kernel keeps requests that come, and programs wait), and all that the kernel
// goes on using by the numbers it was told. Value types.
//
// Files have no numbers of their own: how one is open is all that its handle says
// (file_handle.h).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/unique_fd.h"
#include "mount/options.h"

namespace refault::mount {

// What the kernel and the session that answered its FUSE_INIT have agreed on, as it was on the wire
// (linux/fuse.h): the request as a whole, and the reply behind its header. The kernel says it once.
struct Agreement {
    std::vector<std::uint8_t> request;
    std::vector<std::uint8_t> reply;
};

struct OpenInode {
    base::InodeNo inode;
    std::uint32_t cached = 0;
    std::uint32_t direct = 0;
    bool was_direct = false;
    bool was_dropped = false;
    // A client maps it, or is about to: no open goes through the cache until it is back.
    bool is_claimed = false;
};

// An open directory: the name before each part of its listing that was begun.
struct OpenListing {
    std::uint64_t number = 0;
    std::vector<std::string> starts;
};

struct HandedOver {
    MountOptions options;
    base::UniqueFd connection;
    Agreement agreement;
    std::vector<std::pair<base::InodeNo, std::uint64_t>> remembered;
    std::vector<OpenInode> opens;
    std::vector<OpenListing> listings;
};

}  // namespace refault::mount
