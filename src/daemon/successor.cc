// Asking a program whether it can take over, and letting it.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "daemon/hand_over.h"

namespace refault::daemon {

using base::Code;
using base::Error;
using base::Result;
using base::UniqueFd;
using Json = nlohmann::json;

namespace {

constexpr std::size_t kAnswerBytesMax = 4096;
constexpr int kAnswerMs = 10'000;

std::vector<char*> as_vector(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (auto& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
}

// Who may change the pool may not therefore run programs as the daemon's user: nobody else may have
// been able to put this one there. In a directory that many write in (/tmp) the sticky bit keeps
// what is its owner's. Gives the path without symbolic links, which alone may be used from here on:
// a link may be somebody else's, and lead elsewhere a moment later.
Result<std::string> resolve_nobody_elses(const std::string& path) {
    std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
    if (!real) return base::sys_error(path + " cannot be run");
    std::string part = real.get();
    for (bool is_program = true;; is_program = false) {
        struct stat status {};
        if (::lstat(part.empty() ? "/" : part.c_str(), &status) != 0) return base::sys_error(part);
        const bool is_ours = status.st_uid == 0 || status.st_uid == ::geteuid();
        const bool is_shared = (status.st_mode & (S_IWGRP | S_IWOTH)) != 0;
        const bool is_sticky = !is_program && (status.st_mode & S_ISVTX) != 0;
        if (!is_ours || (is_shared && !is_sticky))
            return Error(Code::Denied,
                         path + " is not run: other users may change " +
                             (part.empty() ? "/" : part) +
                             "; put the program where only root, or the daemon's user, may");
        if (part.empty()) return std::string(real.get());
        part.resize(part.rfind('/'));
    }
}

// What it writes until it ends or has said too much.
std::string read_answer(int fd) {
    std::string answer;
    std::array<char, 512> part{};
    pollfd waiting{fd, POLLIN, 0};
    while (answer.size() < kAnswerBytesMax && ::poll(&waiting, 1, kAnswerMs) > 0) {
        const auto got = ::read(fd, part.data(), part.size());
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        answer.append(part.data(), static_cast<std::size_t>(got));
    }
    return answer;
}

}  // namespace

Result<Successor> probe_successor(const std::string& named) {
    std::string path = named;
    const auto cannot = [&](const std::string& why) {
        return Error(Code::Invalid, path + " cannot take over: " + why);
    };
    if (path.empty() || path[0] != '/') return cannot("name it by its absolute path");
    if (::access(path.c_str(), X_OK) != 0) return base::sys_error(path + " cannot be run", errno);
    auto resolved = resolve_nobody_elses(path);
    if (!resolved) return resolved.error();
    path = std::move(*resolved);
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return base::sys_error("pipe");
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, writer.get(), STDOUT_FILENO);
    std::vector<std::string> arguments{path, "--hand-over-format"};
    pid_t child = -1;
    const int failed = ::posix_spawn(&child, path.c_str(), &actions, nullptr,
                                     as_vector(arguments).data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (failed == EPERM)
        return Error(Code::Denied,
                     "a daemon that was started with --seccomp strict runs no program and cannot "
                     "be replaced; restart it (ram: devices end with it)",
                     EPERM);
    if (failed != 0) return base::sys_error(path + " cannot be run", failed);
    writer.reset();
    const auto answer = read_answer(reader.get());
    (void)::kill(child, SIGKILL);
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
    const auto json = Json::parse(answer, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("hand_over_format") || !json.contains("version"))
        return cannot("it is no refaultd, or an older one");
    if (json["hand_over_format"] != kHandOverFormat || !json["version"].is_string())
        return cannot("it knows another format of handing over; stop this daemon and start it");
    return Successor{path, json["version"].get<std::string>()};
}

Error execute(const std::string& path, std::vector<std::string> arguments) {
    ::execve(path.c_str(), as_vector(arguments).data(), environ);
    return base::sys_error("run " + path);
}

}  // namespace refault::daemon
