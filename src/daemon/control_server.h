// The control API's transport: HTTP on a unix socket. Who may open the socket may do everything;
// requests act as the daemon's own user. Threads: "control" listens, httplib's pool answers;
// followers of events are limited so that they cannot take all of its threads.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/thread.h"
#include "daemon/control_api.h"

namespace refault::daemon {

class ControlServer {
  public:
    ControlServer(ControlApi& api, std::string socket_path, std::uint32_t socket_mode);
    // Listens; the socket is there on return. Busy when another daemon listens there.
    Status start();
    ~ControlServer();

  private:
    struct Http;
    void add_routes();
    void add_data_routes();
    void add_event_stream();
    void add_monitoring_routes();

    ControlApi& api_;
    const std::string socket_path_;
    const std::uint32_t socket_mode_;
    std::unique_ptr<Http> http_;
    std::atomic<int> followers_{0};
    std::atomic<bool> is_ending_{false};
    base::NamedThread thread_;
};

}  // namespace refault::daemon
