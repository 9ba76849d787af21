// Choosing and locking the run directory.
#include "daemon/run_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace refault::daemon {

using base::Code;
using base::Error;
using base::Result;
using base::UniqueFd;

std::string default_run_dir() {
    if (const char* told = std::getenv("REFAULT_RUN_DIR"); told != nullptr && told[0] == '/')
        return told;
    if (::geteuid() == 0) return "/run/refault";
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    if (runtime != nullptr && runtime[0] == '/') return std::string(runtime) + "/refault";
    return "/tmp/refault-" + std::to_string(::geteuid());
}

Result<UniqueFd> take_run_dir(const std::string& path) {
    const auto failed = [&] { return base::sys_error("run directory " + path); };
    if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return failed();
    UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!directory) return failed();
    struct stat status {};
    if (::fstat(directory.get(), &status) != 0) return failed();
    if (status.st_uid != ::geteuid())
        return Error(Code::Denied, "run directory " + path +
                                       " belongs to another user; choose another with --run-dir");
    if (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0)
        return Error(Code::Busy,
                     "another daemon uses " + path + "; stop it, or choose another with --run-dir");
    return directory;
}

}  // namespace refault::daemon
