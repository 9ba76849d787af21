// Starting and ending child processes.
#include "cli/local_daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace refault::cli {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::sys_error;
using base::UniqueFd;

namespace {

constexpr int kReadyTimeoutMs = 20'000;

// Waits until the child has written a line that begins with "refaultd: ready".
Status wait_until_ready(int fd) {
    std::string text;
    for (;;) {
        pollfd wait_for{fd, POLLIN, 0};
        const int ready = ::poll(&wait_for, 1, kReadyTimeoutMs);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return Error(Code::TimedOut, "the daemon did not become ready in time");
        char buffer[512];
        const ssize_t got = ::read(fd, buffer, sizeof buffer);
        if (got <= 0)
            return Error(Code::Gone, "the daemon ended while starting; its reason is above");
        text.append(buffer, static_cast<std::size_t>(got));
        if (text.find("refaultd: ready") != text.npos && text.back() == '\n') return {};
    }
}

}  // namespace

std::string program_directory() {
    std::error_code failure;
    const auto path = std::filesystem::read_symlink("/proc/self/exe", failure);
    return failure ? "." : path.parent_path().string();
}

std::string find_program(const std::string& name) {
    const char* path = std::getenv("PATH");
    std::istringstream directories(path != nullptr ? path : "/usr/bin:/bin");
    for (std::string directory; std::getline(directories, directory, ':');) {
        const auto file = directory + "/" + name;
        if (::access(file.c_str(), X_OK) == 0) return file;
    }
    return {};
}

Result<pid_t> start_program(const std::string& path, const std::vector<std::string>& arguments,
                            const std::vector<int>& keep_open, const ProgramStreams& streams) {
    std::vector<char*> argv{const_cast<char*>(path.c_str())};
    for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return sys_error("fork");
    if (pid > 0) return pid;
    // Only async-signal-safe calls from here to exec.
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(1);
    const int in = streams.in >= 0 ? streams.in : ::open("/dev/null", O_RDONLY);
    if (in > 0) ::dup2(in, STDIN_FILENO);
    if (streams.out >= 0) ::dup2(streams.out, STDOUT_FILENO);
    if (streams.err >= 0) ::dup2(streams.err, STDERR_FILENO);
    for (const int fd : keep_open) ::fcntl(fd, F_SETFD, 0);
    ::execv(path.c_str(), argv.data());
    ::_exit(127);
}

Result<LocalDaemon> LocalDaemon::start(const std::vector<std::string>& arguments,
                                       const std::string& binary) {
    const char* temporary = std::getenv("TMPDIR");
    std::string pattern =
        std::string(temporary != nullptr ? temporary : "/tmp") + "/refault-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) return sys_error("mkdtemp " + pattern);
    LocalDaemon daemon;
    daemon.run_dir_ = pattern;
    RETURN_IF_ERROR(daemon.launch(arguments, binary));
    return daemon;
}

Status LocalDaemon::launch(const std::vector<std::string>& arguments, const std::string& binary) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return sys_error("pipe");
    UniqueFd read_end(ends[0]), write_end(ends[1]);
    std::vector<std::string> all{"--run-dir", run_dir_};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const std::string path = binary.empty() ? program_directory() + "/refaultd" : binary;
    if (::access(path.c_str(), X_OK) != 0) return sys_error("cannot run " + path);
    auto pid = start_program(path, all, {}, {.out = write_end.get()});
    if (!pid) return pid.error();
    pid_ = *pid;
    write_end.reset();
    return wait_until_ready(read_end.get());
}

Status LocalDaemon::start_again(const std::vector<std::string>& arguments,
                                const std::string& binary) {
    CHECK(pid_ <= 0);
    return launch(arguments, binary);
}

void LocalDaemon::kill() {
    if (pid_ <= 0) return;
    const pid_t pid = std::exchange(pid_, -1);
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
}

LocalDaemon::LocalDaemon(LocalDaemon&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), run_dir_(std::exchange(other.run_dir_, {})) {}

Status LocalDaemon::stop() {
    if (pid_ <= 0) return {};
    int status = 0;
    const pid_t pid = std::exchange(pid_, -1);
    ::kill(pid, SIGTERM);
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    return Error(Code::Io,
                 "the daemon did not end in good order (status " + std::to_string(status) + ")");
}

LocalDaemon::~LocalDaemon() {
    base::discard(stop(), "who wants to know calls stop()");
    std::error_code failure;
    if (!run_dir_.empty()) std::filesystem::remove_all(run_dir_, failure);
}

}  // namespace refault::cli
