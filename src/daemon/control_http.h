// cpp-httplib without its own listener: one request on one connection that somebody else has
// accepted, with a limit of time over the whole of it, and with what the peer may do. One server
// object for all workers; its routes are set before the first connection.
#pragma once

#include <httplib.h>

#include <atomic>
#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "daemon/control_listener.h"
#include "daemon/control_rights.h"

namespace refault::daemon {

class ControlHttp final : public httplib::Server {
  public:
    ControlHttp(const ControlLimits& limits, const ControlRights& rights,
                std::shared_ptr<session::Refusals> refusals)
        : limits_(limits), rights_(rights), refusals_(std::move(refusals)) {}
    // Answers that are sent in parts end from here on.
    void begin_end() { svr_sock_ = INVALID_SOCKET; }
    // From here on connections can be served.
    void begin() { svr_sock_ = 0; }

    void serve(base::UniqueFd socket, const ControlPeer& peer);
    // What the peer of a request may do; in a handler.
    static Role role_of(const httplib::Request& request);

  private:
    const ControlLimits limits_;
    const ControlRights rights_;
    const std::shared_ptr<session::Refusals> refusals_;
};

}  // namespace refault::daemon
