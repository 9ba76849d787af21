// What the kernel has cached of the pool's files for programs that reach them through a mounted
// filesystem: pages, which they also map, and attributes and names. Implemented by the mount, which
// lies above this folder. Without a mount there is nothing to do. Thread-safe.
//
// The kernel takes its own locks for each of these, and waits there for requests that it has sent
// to the mount; one thread of the mount does that, and nothing of ours waits behind it without a
// limit.
#pragma once

#include <string>

#include "base/ids.h"
#include "base/range.h"
#include "base/result.h"

namespace refault::session {

class PageCache {
  public:
    virtual ~PageCache() = default;

    // The range lies elsewhere now, was repaired, or is lost: what is cached or mapped of it goes
    // and comes back, or fails, by re-fault. Called when the new state is in force, with any locks
    // held: it only takes note.
    virtual void drop(base::InodeNo inode, base::FileRange range) = 0;
    // Before and after somebody else reads or changes these bytes: what programs have stored
    // through their mappings is written, and nothing of the range is cached on return. Busy when
    // the kernel has not done that in time. No lock is held by the caller.
    virtual base::Status settle(base::InodeNo inode, base::FileRange range) = 0;
    // Attributes, or what a name means, were changed by somebody else.
    virtual void forget_attributes(base::InodeNo inode) = 0;
    virtual void forget_name(base::InodeNo directory, const std::string& name) = 0;

    // Somebody else is to change the size of the file. Busy where the kernel would not notice.
    virtual base::Status may_resize(base::InodeNo inode) = 0;

    // A client is to map the file directly: from here on programs get to it past the cache. Busy
    // when one has it open through the cache. Paired with unclaim, which comes when the registry
    // knows of the mapping.
    virtual base::Status claim(base::InodeNo inode) = 0;
    virtual void unclaim(base::InodeNo inode) = 0;
};

// Where nothing is mounted.
class NoPageCache final : public PageCache {
  public:
    void drop(base::InodeNo, base::FileRange) override {}
    base::Status settle(base::InodeNo, base::FileRange) override { return {}; }
    void forget_attributes(base::InodeNo) override {}
    void forget_name(base::InodeNo, const std::string&) override {}
    base::Status may_resize(base::InodeNo) override { return {}; }
    base::Status claim(base::InodeNo) override { return {}; }
    void unclaim(base::InodeNo) override {}
};

}  // namespace refault::session
