// The mappings of one session as the library keeps them. The pager changes what is mapped at their addresses; the program's
// threads add and remove them. mutex_ is held while an address range is replaced, so that an unmap never meets a placement
// half done; it is never held while memory of the pool is touched.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <span>

#include "base/mutex.h"
#include "base/range_set.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "wire/message.h"

namespace refault::client {

using base::AddressRange;
using base::Result;
using base::Status;

class MappingTable {
  public:
    // `userfaultfd` is the session's own descriptor: who waits for a place is woken through it.
    explicit MappingTable(int userfaultfd) : userfaultfd_(userfaultfd) {}
    Status prepare();

    // Reserves addresses, 2 MiB aligned, that nothing can be read from yet. Its identity comes with the daemon's reply.
    Result<std::uint64_t> reserve(std::uint64_t length);
    void identify(std::uint64_t address, base::MappingId id);
    // Unmaps and forgets.
    void remove(std::uint64_t address);
    void remove_all();

    // Maps one message's places. Places of mappings that are gone are passed over. Corrupt when a place lies outside of
    // its mapping.
    Status place(const wire::Places& places, std::span<const base::UniqueFd> descriptors);
    // Waits until all of the mapping has been placed. Gone when the session has ended meanwhile.
    Status wait_until_placed(std::uint64_t address);
    // The session has ended: nobody waits any more.
    void end();

  private:
    struct Mapping {
        AddressRange addresses;
        std::optional<base::MappingId> id;
        base::RangeSet placed;  // of the mapping's own bytes, from 0
    };

    Mapping* find_locked(std::uint64_t address) REQUIRES(mutex_);
    Status place_one_locked(const wire::Place& place, int fd) REQUIRES(mutex_);

    const int userfaultfd_;
    base::UniqueFd empty_file_;  // mapped beyond the end of a file: a touch is SIGBUS
    base::Mutex mutex_;
    base::CondVar changed_;
    std::map<std::uint64_t, Mapping> mappings_ GUARDED_BY(mutex_);  // by address
    bool has_ended_ GUARDED_BY(mutex_) = false;
};

}  // namespace refault::client
