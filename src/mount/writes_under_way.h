// Which inodes have writes under way. The kernel keeps a page that it writes unlocked as long as
// the request is under way (fs/fuse/file.c, fuse_fill_write_pages). Dropped at that moment, the
// page can be read again before the write is done, and older bytes stay in the cache. So nothing of
// an inode is dropped while it is written, if that can be helped, and else once more when the write
// is done.
//
// Inodes share counters by their numbers: one may wait for another without need. Thread-safe,
// lock-free.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/ids.h"

namespace refault::mount {

class WritesUnderWay {
    struct alignas(64) Slot {
        std::atomic<std::uint64_t> writes{0};
        std::atomic<std::uint64_t> drops{0};  // odd: one is under way
    };

  public:
    // Held over one write.
    class Write {
      public:
        Write(WritesUnderWay& all, base::InodeNo inode)
            : slot_(all.slot(inode)), drops_(slot_.drops.load()) {
            slot_.writes.fetch_add(1);
        }
        ~Write() { slot_.writes.fetch_sub(1); }
        Write(const Write&) = delete;
        Write& operator=(const Write&) = delete;
        // Whether something was dropped meanwhile, or is just being dropped.
        bool has_met_a_drop() const {
            const auto drops = slot_.drops.load();
            return drops != drops_ || drops % 2 != 0;
        }

      private:
        Slot& slot_;
        const std::uint64_t drops_;
    };

    bool is_written(base::InodeNo inode) { return slot(inode).writes.load() > 0; }
    // Around each drop; by one thread.
    void begin_drop(base::InodeNo inode) { slot(inode).drops.fetch_add(1); }
    void end_drop(base::InodeNo inode) { slot(inode).drops.fetch_add(1); }

  private:
    static constexpr std::size_t kSlots = 256;
    Slot& slot(base::InodeNo inode) { return slots_[inode.raw() % kSlots]; }

    std::array<Slot, kSlots> slots_;
};

}  // namespace refault::mount
