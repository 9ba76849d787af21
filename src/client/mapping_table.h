// The mappings of one session as the library keeps them. The pager changes what is mapped at their
// addresses; the program's threads add and remove them.
//
// mutex_ is held while an address range is replaced, so that an unmap never meets a placement half
// done. The pager takes it while other threads wait in page faults. Therefore nobody who holds it
// touches memory of the pool, not even by a signal handler (SignalBlock), or waits for anything
// that could; and place() allocates nothing unless it fails.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/range.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "client/mirrors.h"
#include "client/page_set.h"
#include "wire/message.h"

namespace refault::client {

using base::Access;
using base::AddressRange;
using base::Error;
using base::MappingId;
using base::Result;
using base::Status;

class MappingTable {
  public:
    // `userfaultfd` is the session's own descriptor: who waits for a place is woken through it.
    explicit MappingTable(int userfaultfd) : userfaultfd_(userfaultfd) {}
    Status prepare();

    // Reserves addresses, 2 MiB aligned, that nothing can be read from yet, and behind them the
    // room for the copies of a writable mapping. length: whole pages, not 0.
    Result<std::uint64_t> reserve(std::uint64_t length, Access access);
    // In a child: those that its parent had, at the same addresses, for a daemon that is told of
    // them anew (remaps). Exists when something else is there by now.
    Status inherit(const MappingTable& inherited);
    // The copies of the mapping there; nullptr when it is read-only.
    std::shared_ptr<Mirrors> mirrors(std::uint64_t address) const;
    // Whether the address belongs to a mapping or to its copies. For the SIGBUS handler.
    bool owns(std::uint64_t address) const noexcept;
    // Gives the mapping the identity that the daemon answered with. Corrupt when places came under
    // another.
    Status identify(std::uint64_t address, MappingId id);
    // What a later daemon is to be told of the mapping: set before it is identified.
    void set_origin(std::uint64_t address, std::string ticket, std::uint64_t file_offset);
    std::optional<MappingId> id(std::uint64_t address) const;
    // Every mapping that an earlier daemon knew of, for one that knows of none.
    std::vector<wire::Remap> remaps() const;
    // The later daemon's number of it: places come under this one from now on. No more places come
    // from the earlier daemon.
    void renew(std::uint64_t address, MappingId id);
    // There is no daemon that would let a store go on which is the first into a clean region: lifts
    // that protection. What a fence has shut, for missing pages too, stays shut.
    Status let_stores_go() const;
    // No daemon has it any more: a touch is SIGBUS from now on.
    Status withdraw(std::uint64_t address);
    // A touch of the page is SIGBUS until it is placed anew, and is for who waits there.
    Status refuse(std::uint64_t page);
    // Whoever waits for a place tries again.
    void wake_all() const;
    // Unmaps and forgets.
    void remove(std::uint64_t address);
    void remove_all();

    // Maps one place, `fd` being its segment; kNoDescriptor: a touch is SIGBUS, the daemon says
    // why. A place of a mapping that is gone is passed over. Corrupt when it lies outside of its
    // mapping; NoSpace or Busy when the kernel is short of memory or mappings: then nothing has
    // changed, and it may be tried again.
    Status place(const wire::Place& place, int fd);
    // Waits until every page of the mapping has been placed once. TimedOut at the deadline; when
    // the pager has ended, the reason for it.
    Status wait_until_placed(std::uint64_t address, std::chrono::steady_clock::time_point deadline);

    // No places come any more, unless it goes on; the first reason stays until then.
    void end(const Error& reason);
    void go_on();
    std::optional<Error> end_reason() const;

  private:
    struct Mapping {
        AddressRange addresses;
        std::uint64_t reserved_bytes = 0;  // the copies included
        std::shared_ptr<Mirrors> mirrors;  // of a writable mapping
        std::optional<MappingId> id;
        // A place that was meant for an earlier mapping at the same addresses has a number up to
        // this one.
        MappingId later_than;
        PageSet unplaced;
        std::string ticket = {};
        std::uint64_t file_offset = 0;

        Access access() const { return mirrors ? Access::ReadWrite : Access::Read; }
    };

    // The mapping whose addresses, or whose copies', these are.
    Mapping* find_locked(std::uint64_t address) REQUIRES(mutex_);
    const Mapping* find_locked(std::uint64_t address) const REQUIRES(mutex_);
    // Where the place lies; Corrupt when that is outside of its mapping.
    Result<AddressRange> addresses_of_locked(const Mapping& mapping, const wire::Place& place) const
        REQUIRES(mutex_);
    // True when the place is for this mapping; its identity may be learned from it.
    bool is_for_locked(Mapping& mapping, MappingId id) REQUIRES(mutex_);
    Status map_over_locked(const wire::Place& place, int fd) REQUIRES(mutex_);
    Status map_nothing_over_locked(const Mapping& mapping, AddressRange addresses) REQUIRES(mutex_);

    const int userfaultfd_;
    base::UniqueFd empty_file_;  // mapped beyond the end of a file: a touch is SIGBUS
    mutable base::Mutex mutex_{base::LockRank::ClientMappings};
    base::CondVar changed_;
    std::map<std::uint64_t, Mapping> mappings_ GUARDED_BY(mutex_);  // by address
    MappingId last_id_ GUARDED_BY(mutex_);                          // the greatest seen
    std::optional<Error> end_reason_ GUARDED_BY(mutex_);
};

}  // namespace refault::client
