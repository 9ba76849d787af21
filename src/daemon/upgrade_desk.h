// The wish to be replaced by another program: asked for at the control API, fulfilled by the main
// thread, which alone may end the others. Thread-safe; mutex_ is a leaf.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "base/mutex.h"
#include "daemon/hand_over.h"

namespace refault::daemon {

class UpgradeDesk {
  public:
    struct View {
        std::uint64_t count = 0;  // how often this process was replaced
        std::string error;        // why it was not, the last time
    };

    // `wake` tells the main thread that there is a wish.
    explicit UpgradeDesk(std::function<void()> wake) : wake_(std::move(wake)) {}

    void set_count(std::uint64_t count) {
        base::MutexLock lock(mutex_);
        view_.count = count;
    }
    void ask(Successor successor) {
        {
            base::MutexLock lock(mutex_);
            wish_ = std::move(successor);
            view_.error.clear();
        }
        wake_();
    }
    std::optional<Successor> take() {
        base::MutexLock lock(mutex_);
        return std::exchange(wish_, std::nullopt);
    }
    void refuse(const base::Error& error) {
        base::MutexLock lock(mutex_);
        view_.error = error.message();
    }
    View view() const {
        base::MutexLock lock(mutex_);
        return view_;
    }

  private:
    const std::function<void()> wake_;
    mutable base::Mutex mutex_;
    std::optional<Successor> wish_ GUARDED_BY(mutex_);
    View view_ GUARDED_BY(mutex_);
};

}  // namespace refault::daemon
