// What changes or reads a file's bytes on behalf of clients and tools, with the locks and fences
// that this needs: one path for the session channel and the control API. Thread-safe. Takes the
// inode's layout lock for each call; bounded work per call.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include "base/result.h"
#include "session/registry.h"
#include "store/store.h"

namespace refault::session {

// Moves a file out of segments that it shares with other files, so that its descriptors may go to
// another user. Implemented by the mover, which lies above this folder.
class Isolator {
  public:
    virtual ~Isolator() = default;
    virtual Status isolate(InodeNo inode) = 0;
};

// Who asks. The mount is trusted to keep the kernel's cache true by itself, and gives up (errno
// EIO) where a range stays locked for too long.
struct Caller {
    bool is_mount = false;
    // No client maps the file directly, nor will one before this call ends.
    bool allows_holes = false;
    store::LayoutMutex::Deadline deadline = store::LayoutMutex::kNever;
};

class FileService {
  public:
    FileService(store::Store& store, Registry& registry, Isolator& isolator)
        : store_(store), registry_(registry), isolator_(isolator) {}

    // Called when copies may be missing: of what grew where devices are few, of what was lost and
    // is used again. Set before the first request.
    void set_copies_missing_sink(std::function<void()> sink) { copies_missing_ = std::move(sink); }

    // Asked before bytes of a file are moved for a mapping; its error is the answer. Set likewise.
    void set_move_gate(std::function<Status()> gate) { move_gate_ = std::move(gate); }

    // Sees to it that the file has no holes (NoSpace), and that descriptors of its segments may go
    // to this user: moves it to segments of its own when they hold other files of another user.
    Status make_mappable(InodeNo inode, const base::Cred& who);

    // Shrinking takes what is cut off out of all mappings (a later touch is SIGBUS) before its
    // space is given back, and is refused (Busy) when a client does not let go; growing tells
    // mappings that reach beyond the old end.
    Status resize(InodeNo inode, std::uint64_t size_bytes, Caller caller = {});
    Result<std::size_t> read(InodeNo inode, std::uint64_t offset, std::span<std::uint8_t> into,
                             Caller caller = {});
    // The range reads as zeros from now on, in every mapping; what was lost in it can be used
    // again. Whole pages.
    Status punch(InodeNo inode, std::uint64_t offset, std::uint64_t length, Caller caller = {});
    // Grows the file when it has to. Whole pages that were lost can be used again.
    Result<std::size_t> write(InodeNo inode, std::uint64_t offset,
                              std::span<const std::uint8_t> from, Caller caller = {});

    // Gives the range space now; beyond the end the file grows, or with `keeps_size` is refused
    // (NotSupported).
    Status allocate(InodeNo inode, FileRange range, bool keeps_size, Caller caller);
    // The range reads as zeros. Whole pages in it give their space back where that is allowed, and
    // what was lost there can be used again.
    Status clear(InodeNo inode, FileRange range, Caller caller);

    // Before a client maps the file directly: programs on the mount go past the kernel's cache from
    // here on. Busy when one has the file open through it. Ends with the returned object, by when
    // the registry knows of the mapping.
    class Claim {
      public:
        Claim(PageCache& cache, InodeNo inode) : cache_(&cache), inode_(inode) {}
        ~Claim() {
            if (cache_ != nullptr) cache_->unclaim(inode_);
        }
        Claim(Claim&& other) noexcept
            : cache_(std::exchange(other.cache_, nullptr)), inode_(other.inode_) {}
        Claim& operator=(Claim&&) = delete;

      private:
        PageCache* cache_;
        InodeNo inode_;
    };
    Result<Claim> claim(InodeNo inode);
    // The kernel does not know what it has of the inode's attributes any more.
    void attributes_changed(InodeNo inode) { registry_.page_cache().forget_attributes(inode); }
    // A name was made, removed or replaced by somebody who is not the mount.
    void name_changed(const std::string& path);

  private:
    store::Store& store_;
    Registry& registry_;
    Isolator& isolator_;
    std::function<void()> copies_missing_;
    std::function<Status()> move_gate_;

    // False, and nothing done, when the size is not old_size_bytes any more.
    Result<bool> shrink(InodeNo inode, std::uint64_t old_size_bytes, std::uint64_t size_bytes,
                        const Caller& caller);
    Result<bool> grow(InodeNo inode, std::uint64_t old_size_bytes, std::uint64_t size_bytes,
                      const Caller& caller);
    Status fill_holes(InodeNo inode);
    void note_copies_missing(InodeNo inode) const;
    bool has_size(InodeNo inode, std::uint64_t size_bytes) const;
    Status resize_uncached(InodeNo inode, std::uint64_t size_bytes, const Caller& caller);
    Status clear_edges(InodeNo inode, FileRange range, FileRange pages);
    Status punch_uncached(InodeNo inode, FileRange range, const Caller& caller);
    Result<std::size_t> write_uncached(InodeNo inode, std::uint64_t offset,
                                       std::span<const std::uint8_t> from, const Caller& caller);
    Result<store::LayoutLock> lock(InodeNo inode, const Caller& caller);
    // The change, with nothing of the range in the kernel's cache before and after it.
    Status past_the_cache(InodeNo inode, FileRange range, const Caller& caller,
                          const std::function<Status()>& change);
};

}  // namespace refault::session
