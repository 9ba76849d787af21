// One client's session channel: the handshake, then its requests one by one. Runs on its own
// thread, "session-N"; files it has open are its own, unlocked state.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>

#include "base/event.h"
#include "session/fault_desk.h"
#include "session/file_service.h"
#include "session/registry.h"
#include "session/request_gate.h"
#include "session/server.h"
#include "session/ticket.h"
#include "wire/message.h"

namespace refault::session {

// What a connection needs of its server.
struct ConnectionContext {
    store::Store& store;
    Registry& registry;
    FileService& files;
    FaultDesk& faults;
    base::EventSink& events;
    const ServerOptions& options;
    RequestGate& gate;
    const Tickets& tickets;
    int stop_event;                                             // readable: the server ends
    std::function<void(std::shared_ptr<Session>)> watch_pager;  // from now on answer its fetches
    std::function<void(base::SessionId)> forget_pager;
};

class Connection {
  public:
    Connection(const ConnectionContext& context, base::SessionId id, base::UniqueFd socket);

    // Serves until the client is gone or the server stops; then gives back all that the client
    // held.
    void run();

  private:
    struct OpenFile {
        InodeNo inode;
        base::Access access = base::Access::Read;
    };

    Status shake_hands();
    Status serve();
    // False when there is nothing more to read: the peer or the server is ending.
    bool wait_for_message();
    void close_all();
    // Counts, logs and publishes the reason for which the session ends.
    void tell_why(const base::Error& error);
    Status send(const wire::Reply& reply);

    Result<wire::Reply> handle(const wire::CreateFile& request);
    Result<wire::Reply> handle(const wire::OpenFile& request);
    Result<wire::Reply> handle(const wire::CloseFile& request);
    Result<wire::Reply> handle(const wire::Resize& request);
    Result<wire::Reply> handle(const wire::StatHandle& request);
    Result<wire::Reply> handle(const wire::StatPath& request);
    Result<wire::Reply> handle(const wire::Map& request);
    Result<wire::Reply> handle(const wire::Unmap& request);
    Result<wire::Reply> handle(const wire::List& request);
    Result<wire::Reply> handle(const wire::Unlink& request);
    Result<wire::Reply> handle(const wire::MakeDirectory& request);
    Result<wire::Reply> handle(const wire::RemoveDirectory& request);
    Result<wire::Reply> handle(const wire::Rename& request);
    Result<wire::Reply> handle(const wire::Accept& request);
    Result<wire::Reply> handle(const wire::SetNotice& request);
    Result<wire::Reply> handle(const wire::Punch& request);
    Result<wire::Reply> handle(const wire::Reopen& request);
    Result<wire::Reply> handle(const wire::Remap& request);

    Result<OpenFile> file_of(std::uint32_t handle) const;
    Status check_room_for_file() const;
    Result<wire::Reply> opened(const std::string& path, base::Access access);
    // What the client has reserved for a mapping.
    struct Wanted {
        FileRange range;
        AddressRange addresses;  // with the room for the copies
        base::Access access = base::Access::Read;
    };
    static Result<Wanted> check_bounds(std::uint64_t offset, std::uint64_t length,
                                       std::uint64_t address, base::Access access);
    Status check_map(const Wanted& wanted, const OpenFile& file) const;
    enum class Populate { No, Yes };
    Result<wire::Reply> map(const Wanted& wanted, const OpenFile& file, Populate populate,
                            Registry::Earlier earlier);

    const ConnectionContext& context_;
    const base::SessionId id_;
    base::UniqueFd socket_;
    base::UniqueFd process_;  // pidfd: a forked child may keep the socket open after the client
                              // itself has ended
    std::shared_ptr<Session> session_;
    std::map<std::uint32_t, OpenFile> files_;
    std::uint32_t next_handle_ = 1;
    struct Mapped {
        AddressRange addresses;
        InodeNo inode;
        base::Access access = base::Access::Read;
    };
    std::map<MappingId, Mapped> mapped_;
};

}  // namespace refault::session
