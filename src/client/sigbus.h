// The process's SIGBUS handler: memory that vanishes before the daemon knows reaches the program as
// SIGBUS, and most of the time there is another copy.
//
//   SIGBUS -> in a mapping of ours? -> ask the daemon -> "mapped again": return, the access repeats
//                 | no                      | lost
//                 v                         v
//           the handler that was there    a Guard of this thread, else the handler that was there,
//           before, untouched             with BUS_MCEERR_AR, the address and the size
//
// The one piece of state that the whole process shares, because signal dispositions are. The
// handler is async-signal-safe: no heap, no locks but that of a mapping table, which is never held
// over an access to pool memory. It never keeps a SIGBUS that is not ours.
#pragma once

#include <signal.h>

#include "base/result.h"
#include "client/fault_line.h"
#include "client/mapping_table.h"

namespace refault::client {

// Installs the handler, the first time. What the program installs later takes its place: it calls
// resolve_sigbus first.
base::Status install_sigbus_handler();

// True when the access can be repeated. False: the signal is the program's; where the memory was
// ours, `info` says what happened. Async-signal-safe.
bool resolve_sigbus(siginfo_t& info) noexcept;

// Tells the program of a loss that it has not touched: SIGBUS with BUS_MCEERR_AO, to any thread of
// it that does not block it.
void raise_notice(std::uint64_t address, std::uint64_t length) noexcept;

// Makes a session's mappings known to the handler for as long as it lives.
class SigbusEntry {
  public:
    SigbusEntry(MappingTable& mappings, FaultLine& line);
    // Waits until no handler is using them.
    ~SigbusEntry();
    SigbusEntry(const SigbusEntry&) = delete;
    SigbusEntry& operator=(const SigbusEntry&) = delete;

    // In a child, which has none of the threads that could be using it. It is not destroyed then.
    void forget_in_child() noexcept;

    MappingTable& mappings() const noexcept { return mappings_; }
    FaultLine& line() const noexcept { return line_; }

  private:
    MappingTable& mappings_;
    FaultLine& line_;
    std::size_t slot_;
};

}  // namespace refault::client
