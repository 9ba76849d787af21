// The control API's transport: HTTP on a unix socket and, where wished, by TCP. Who may look and
// who may change is in control_rights.h; requests act as the daemon's own user. Threads: those of
// control_listener.h; followers of events are limited so that they cannot take all of them.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/result.h"
#include "daemon/control_api.h"
#include "daemon/control_listener.h"
#include "daemon/control_rights.h"

namespace refault::daemon {

class ControlHttp;

struct ControlOptions {
    std::string socket_path;
    std::uint32_t socket_mode = 0600;
    ControlLimits limits = {};
    ControlRights rights = {};
    std::string tcp_address = {};  // empty: not by TCP
};

class ControlServer {
  public:
    ControlServer(ControlApi& api, ControlOptions options);
    // Listens; the socket is there on return. Busy when another daemon listens there.
    Status start();
    ~ControlServer();
    // Where it listens by TCP, with the port that was chosen for port 0.
    const std::string& tcp_address() const noexcept { return tcp_address_; }

  private:
    void add_routes();
    void add_data_routes();
    void add_event_stream();
    void add_monitoring_routes();

    ControlApi& api_;
    const ControlOptions options_;
    std::string tcp_address_;
    std::unique_ptr<ControlHttp> http_;
    std::atomic<std::uint32_t> followers_{0};
    std::atomic<bool> is_ending_{false};
    std::unique_ptr<ControlListener> listener_;  // its workers use all of the above
};

}  // namespace refault::daemon
