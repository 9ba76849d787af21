// The thread `refault-pager`: owns the client's end of the pager channel and maps what the daemon
// sends.
//
//   idle --Doorbell--> fetching --Places, not empty--> fetching (says what is in force and asks for
//   the rest)
//                               --Places, empty------> idle, or fetching again when it was rung
//                               meanwhile
//
// It must make progress while any other thread of the program waits in a page fault, whatever locks
// that thread holds. So it has all signals blocked, takes no lock but the mapping table's and the
// fork gate, and allocates nothing on its way: its buffers are made with it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "base/result.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "client/fault_line.h"
#include "client/fork_gate.h"
#include "client/mapping_table.h"
#include "client/notice_box.h"
#include "sys/socket.h"
#include "wire/message.h"

namespace refault::client {

class Pager {
  public:
    // `line` answers the SIGBUS handler through the same channel. `come_back`: called when the
    // daemon has hung up; true when another one is at the other end of the channel. `abandoned`:
    // called when none came; what it does is the last of the thread.
    Pager(base::UniqueFd channel, MappingTable& mappings, FaultLine& line, NoticeBox& notices,
          std::function<bool()> come_back, std::function<void()> abandoned);
    // Hangs up and joins the thread.
    ~Pager();
    Pager(const Pager&) = delete;
    Pager& operator=(const Pager&) = delete;
    Status start();

  private:
    void run() noexcept;
    Status serve();
    // What is no part of the dialogue about places.
    bool take_aside();
    Result<sys::ReceivedSizes> receive();
    void close_descriptors();
    Status place_all(std::size_t descriptors);
    Status place_patiently(const wire::Place& place, int fd);
    // Keeps the channel open: the daemon must go on to see these mappings, and fences must keep
    // what they stopped.
    void end(const Error& reason);

    const base::UniqueFd channel_;
    MappingTable& mappings_;
    FaultLine& line_;
    NoticeBox& notices_;
    const std::function<bool()> come_back_;
    const std::function<void()> abandoned_;
    // The thread's own.
    std::array<std::uint8_t, wire::kMessageBytesMax> bytes_;
    std::array<base::UniqueFd, sys::kDescriptorsMax> descriptors_;
    NotForChildren not_for_children_{descriptors_};
    wire::FromDaemon message_;
    base::NamedThread thread_;
};

}  // namespace refault::client
