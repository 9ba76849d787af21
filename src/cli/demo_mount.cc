// By the control API; the last resort is the kernel.
#include "cli/demo_mount.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "sys/mount.h"

namespace refault::cli {

using base::Status;

Status DemoMount::mount() {
    if (::mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST)
        return base::sys_error("mkdir " + path_);
    auto mounted = control_.post("/v1/mounts", {{"directory", path_}});
    if (!mounted) return mounted.error();
    return {};
}

Status DemoMount::unmount() {
    auto unmounted = control_.post("/v1/unmount", {{"directory", path_}});
    if (!unmounted) return unmounted.error();
    return {};
}

DemoMount::~DemoMount() {
    if (sys::mounted_device(path_) != 0)
        base::discard(control_.post("/v1/unmount", {{"directory", path_}, {"force", true}}),
                      "looked at below");
    if (sys::mounted_device(path_) != 0)
        base::discard(sys::unmount_fuse(path_, /*is_lazy=*/true), "nothing is left to try");
    ::rmdir(path_.c_str());
}

}  // namespace refault::cli
