// Looks at the devices: files that vanish are seen at once (inotify), what only gets shorter or
// stops answering within kInterval. One thread, "device-watch". It only raises suspicion; the
// failure service examines. Only a label that was removed is the end of a device by itself.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "base/ids.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "store/store.h"

namespace refault::failure {

class DeviceWatch {
  public:
    static constexpr std::chrono::milliseconds kInterval{200};

    using Callback = std::function<void(base::DeviceId)>;
    // on_label_removed: that is certain, and the daemon may have written another label since.
    DeviceWatch(store::Store& store, Callback on_suspicion, Callback on_label_removed);
    ~DeviceWatch();
    base::Status start();

  private:
    void run();
    void watch_new_devices();
    void read_events();
    void probe_all();

    store::Store& store_;
    const Callback on_suspicion_;
    const Callback on_label_removed_;
    base::UniqueFd inotify_;
    base::UniqueFd stop_event_;
    std::map<int, base::DeviceId> watched_;  // the thread's own
    base::NamedThread thread_;
};

}  // namespace refault::failure
