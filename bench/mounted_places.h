// Where the same programs run in the bench of the mount: a pool mounted by a daemon of its own,
// another FUSE filesystem that passes everything through to a tmpfs, and the tmpfs itself. Mounts
// and processes end with the objects.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "bench/plain_file.h"
#include "cli/local_daemon.h"

namespace refault::bench {

// A directory of its own, removed at the end.
class ScratchDirectory {
  public:
    ScratchDirectory();
    ~ScratchDirectory();
    ScratchDirectory(const ScratchDirectory&) = delete;
    ScratchDirectory& operator=(const ScratchDirectory&) = delete;
    const std::string& path() const { return path_; }

  private:
    std::string path_ = "/tmp/refault-bench-mount-XXXXXX";
};

class MountedPool {
  public:
    // One device of memory, one copy of each file.
    static base::Result<std::unique_ptr<MountedPool>> create(const std::string& size);
    ~MountedPool();
    const std::string& path() const { return directory_.path(); }

  private:
    explicit MountedPool(cli::LocalDaemon daemon) : daemon_(std::move(daemon)) {}
    cli::LocalDaemon daemon_;
    ScratchDirectory directory_;
};

// libfuse's own example passthrough_ll, compiled for the occasion, else bindfs; over a directory.
class FusePeer {
  public:
    // NotFound when neither is to be had.
    static base::Result<std::unique_ptr<FusePeer>> create(const std::string& source);
    ~FusePeer();
    const std::string& path() const { return directory_.path(); }
    const std::string& name() const { return name_; }
    // It keeps a descriptor of each file that the kernel knows.
    int files_max() const;

  private:
    FusePeer() = default;
    ScratchDirectory build_;
    ScratchDirectory directory_;
    std::string name_;
    pid_t pid_ = -1;
};

}  // namespace refault::bench
