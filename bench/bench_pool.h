// A whole pool inside of the bench, with its session socket and without HTTP: what a bench calls is
// what the daemon's own threads call.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "daemon/event_log.h"
#include "daemon/pool.h"

namespace refault::bench {

class BenchPool {
  public:
    static base::Result<std::unique_ptr<BenchPool>> create(const std::vector<std::string>& specs);
    ~BenchPool();

    daemon::Pool& pool() { return *pool_; }
    store::Store& store() { return pool_->store(); }
    std::string socket() const { return directory_ + "/session.sock"; }

    // A file of that many copies which goes on with the older bytes after a loss, so that a writer
    // is not held back.
    base::Result<base::InodeNo> make_file(const std::string& path, std::uint64_t bytes,
                                          std::uint32_t replicas);
    // The primary's place of one page.
    base::Result<store::Extent> page_at(base::InodeNo inode, std::uint64_t offset);

  private:
    BenchPool() = default;
    std::string directory_;
    daemon::EventLog events_;
    std::unique_ptr<daemon::Pool> pool_;
};

}  // namespace refault::bench
