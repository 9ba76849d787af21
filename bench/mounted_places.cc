// Mounting and ending.
#include "bench/mounted_places.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "bench/child.h"
#include "cli/control_client.h"
#include "sys/mount.h"

namespace refault::bench {

using base::Code;
using base::Error;

namespace {

constexpr const char* kExample = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c";

bool runs(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

// The program and its arguments before the mount point; empty when there is none.
std::vector<std::string> peer_command(const std::string& build, const std::string& source,
                                      std::string& name) {
    const auto program = build + "/passthrough_ll";
    if (runs("cc -O2 -o " + program + " -I/usr/share/doc/libfuse3-dev/examples " + kExample +
             " $(pkg-config --cflags --libs fuse3)")) {
        name = "passthrough_ll";
        // Without default_permissions it would let everybody do everything, and be asked less.
        const auto options = "default_permissions,source=" + source + ",cache=always,timeout=86400";
        return {"/bin/sh",
                "-c",
                "ulimit -Hn 200000 2>/dev/null; ulimit -Sn $(ulimit -Hn); exec \"$0\" \"$@\"",
                program,
                "-f",
                "-o",
                options};
    }
    if (runs("command -v bindfs")) {
        name = "bindfs";
        return {"/usr/bin/bindfs", "-f", source};
    }
    return {};
}

}  // namespace

ScratchDirectory::ScratchDirectory() {
    if (::mkdtemp(path_.data()) == nullptr) path_.clear();
}

ScratchDirectory::~ScratchDirectory() {
    std::error_code failure;
    if (!path_.empty() && !sys::is_mount_point(path_)) std::filesystem::remove_all(path_, failure);
}

base::Result<std::unique_ptr<MountedPool>> MountedPool::create(const std::string& size) {
    auto daemon = cli::LocalDaemon::start({"--create", "bench", "--device", "memory=ram:" + size});
    if (!daemon) return daemon.error();
    std::unique_ptr<MountedPool> pool(new MountedPool(std::move(*daemon)));
    const cli::ControlClient control(pool->daemon_.control_socket());
    auto mounted = control.post("/v1/mounts", {{"directory", pool->path()}});
    if (!mounted) return mounted.error();
    return pool;
}

MountedPool::~MountedPool() {
    const cli::ControlClient control(daemon_.control_socket());
    (void)control.post("/v1/unmount", {{"directory", path()}, {"force", true}});
}

base::Result<std::unique_ptr<FusePeer>> FusePeer::create(const std::string& source) {
    std::unique_ptr<FusePeer> peer(new FusePeer);
    auto command = peer_command(peer->build_.path(), source, peer->name_);
    if (command.empty())
        return Error(Code::NotFound, "there is neither passthrough_ll nor bindfs to compare with");
    command.push_back(peer->path());
    auto started = cli::start_program(command.front(), {command.begin() + 1, command.end()});
    if (!started) return started.error();
    peer->pid_ = *started;
    if (!wait_for([&] { return sys::is_mount_point(peer->path()); }))
        return Error(Code::TimedOut, peer->name_ + " does not mount");
    return peer;
}

int FusePeer::files_max() const {
    // What it has open besides.
    constexpr rlim_t kOthers = 1000;
    struct rlimit limit {};
    if (::prlimit(pid_, RLIMIT_NOFILE, nullptr, &limit) != 0 || limit.rlim_cur < 2 * kOthers)
        return kOthers;
    return static_cast<int>(std::min<rlim_t>(limit.rlim_cur - kOthers, INT_MAX));
}

FusePeer::~FusePeer() {
    if (pid_ <= 0) return;
    base::discard(sys::unmount_fuse(path(), /*is_lazy=*/true), "it may not have come to that");
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
}

}  // namespace refault::bench
