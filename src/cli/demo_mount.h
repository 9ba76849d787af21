// The mount of the demo's pool: a directory of its own in the daemon's run directory, which is
// unmounted and removed when the object goes, also when the daemon is gone. One thread.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/control_client.h"

namespace refault::cli {

class DemoMount {
  public:
    // Valid while the client is.
    DemoMount(const ControlClient& control, std::string path)
        : control_(control), path_(std::move(path)) {}
    // Whatever uses it then sees it fail.
    ~DemoMount();
    DemoMount(const DemoMount&) = delete;
    DemoMount& operator=(const DemoMount&) = delete;

    base::Status mount();
    // Nobody uses it any more.
    base::Status unmount();
    const std::string& path() const { return path_; }

  private:
    const ControlClient& control_;
    const std::string path_;
};

}  // namespace refault::cli
