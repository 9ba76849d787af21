// What a mount is made of, without its threads: whoever plays the kernel says when a request is
// served. Not thread-safe.
#pragma once

#include "base/unique_fd.h"
#include "fuzz/pool.h"
#include "mount/context.h"

namespace refault::fuzz {

class Served {
  public:
    // On a connection where nothing was said yet.
    Served(ServedPool& pool, base::UniqueFd connection);
    // In the place of another, which ends next, as after an upgrade of the daemon.
    Served(ServedPool& pool, const Served& before);
    // The connection has ended.
    ~Served();
    Served(const Served&) = delete;
    Served& operator=(const Served&) = delete;

    // One request, which is there. `is_given_up`: its reply cannot be written.
    void serve(bool is_given_up);
    // libfuse takes no more requests.
    bool has_failed() const { return fuse_session_exited(session_) != 0; }

    mount::OpenInodes& opens() { return opens_; }
    const mount::Remembered& remembered() const { return remembered_; }
    const mount::Listings& listings() const { return listings_; }

  private:
    explicit Served(ServedPool& pool);

    const mount::MountOptions options_;
    mount::OpenInodes opens_;
    mount::Remembered remembered_;
    mount::Listings listings_;
    mount::KernelChannel channel_;
    mount::WritesUnderWay writes_;
    mount::Context context_;
    fuse_session* session_;
    mount::Notifier notifier_;  // takes note; nothing is told
};

}  // namespace refault::fuzz
