// Choosing and locking the run directory.
#include "daemon/run_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "sys/file.h"

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
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return Error(Code::Denied, "run directory " + path +
                                       " lets others write in it, who could put sockets of their "
                                       "own there; chmod go-w it");
    if (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0)
        return Error(Code::Busy,
                     "another daemon uses " + path + "; stop it, or choose another with --run-dir");
    return directory;
}

namespace {

constexpr const char* kKeyFile = "session.key";

Result<session::TicketKey> read_key(const UniqueFd& file) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return base::sys_error(kKeyFile);
    session::TicketKey key{};
    if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & 077) != 0 ||
        status.st_size != static_cast<off_t>(key.size()))
        return Error(Code::Denied,
                     "session.key in the run directory is not the daemon's own; remove it (clients "
                     "of the last daemon cannot come back then)");
    RETURN_IF_ERROR(sys::read_fully(file.get(), 0, key));
    return key;
}

}  // namespace

// Made under another name: a daemon that dies here leaves no half of a key.
Result<session::TicketKey> take_ticket_key(int run_dir) {
    auto file = sys::open_at(run_dir, kKeyFile, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (file) return read_key(*file);
    if (file.error().code() != Code::NotFound) return file.error();
    const auto key = session::make_ticket_key();
    if (!key) return key.error();
    const std::string fresh = std::string(kKeyFile) + ".new";
    (void)::unlinkat(run_dir, fresh.c_str(), 0);
    file = sys::open_at(run_dir, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (!file) return file.error();
    RETURN_IF_ERROR(sys::write_fully(file->get(), 0, *key));
    if (::renameat(run_dir, fresh.c_str(), run_dir, kKeyFile) != 0)
        return base::sys_error(kKeyFile);
    return *key;
}

}  // namespace refault::daemon
