// Losses that the daemon tells of before anybody touches them: handed to the program as a signal,
// or through a descriptor that it can poll. The pager puts, any thread takes.
#pragma once

#include <refault/refault.h>

#include <atomic>

#include "base/result.h"
#include "base/unique_fd.h"
#include "wire/message.h"

namespace refault::client {

class NoticeBox {
  public:
    enum class Mode { Late, Signal, Descriptor };
    void set_mode(Mode mode) noexcept { mode_.store(mode); }
    Mode mode() const noexcept { return mode_.load(); }
    // Readable while notices wait; opened on the first call, ours.
    base::Result<int> descriptor();
    // The oldest that waits; false when there is none.
    bool take(rf_loss& loss);

    void put(const wire::Notice& notice) noexcept;

  private:
    std::atomic<Mode> mode_{Mode::Late};
    base::UniqueFd read_end_;
    base::UniqueFd write_end_;
    std::atomic<int> write_fd_{-1};
};

}  // namespace refault::client
