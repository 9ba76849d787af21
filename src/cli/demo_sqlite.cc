// Pipes to and from it.
#include "cli/demo_sqlite.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "cli/demo_stage.h"
#include "cli/local_daemon.h"

namespace refault::cli {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::sys_error;
using std::chrono::steady_clock;

namespace {

constexpr auto kAnswerLimit = std::chrono::seconds(60);
constexpr int kLookTimeoutMs = 100;  // how often an interrupt is looked for
// A line that no row and no message is.
const std::string kDone = "-- done --\n";
const std::string kSayDone = " SELECT '-- done --';\n";

Result<std::pair<base::UniqueFd, base::UniqueFd>> make_pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return sys_error("pipe");
    return std::pair(base::UniqueFd(ends[0]), base::UniqueFd(ends[1]));
}

}  // namespace

Result<Sqlite> Sqlite::start(const std::string& program, const std::string& database) {
    auto in = make_pipe();
    if (!in) return in.error();
    auto out = make_pipe();
    if (!out) return out.error();
    // -init: what its user has in ~/.sqliterc is not part of the demo.
    auto pid =
        start_program(program, {"-batch", "-bail", "-init", "/dev/null", database}, {},
                      {.in = in->first.get(), .out = out->second.get(), .err = out->second.get()});
    if (!pid) return pid.error();
    Sqlite sqlite;
    sqlite.pid_ = *pid;
    sqlite.to_ = std::move(in->second);
    sqlite.from_ = std::move(out->first);
    return sqlite;
}

Sqlite::Sqlite(Sqlite&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      to_(std::move(other.to_)),
      from_(std::move(other.from_)) {}

Sqlite::~Sqlite() {
    kill();
    while (pid_ > 0 && ::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

void Sqlite::kill() const {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
}

Status Sqlite::say(const std::string& text) {
    for (std::size_t written = 0; written < text.size();) {
        const ssize_t step = ::write(to_.get(), text.data() + written, text.size() - written);
        if (step >= 0) {
            written += static_cast<std::size_t>(step);
            continue;
        }
        if (errno != EINTR) return sys_error("write to sqlite3");
        RETURN_IF_ERROR(DemoStage::check_interrupt());
    }
    return {};
}

Result<bool> Sqlite::read_until(const std::string& last, std::string& text) {
    const auto deadline = steady_clock::now() + kAnswerLimit;
    while (last.empty() || !text.ends_with(last)) {
        RETURN_IF_ERROR(DemoStage::check_interrupt());
        if (steady_clock::now() > deadline) return Error(Code::TimedOut, "sqlite3 does not answer");
        pollfd wait_for{from_.get(), POLLIN, 0};
        if (::poll(&wait_for, 1, kLookTimeoutMs) <= 0) continue;
        char buffer[65536];
        const ssize_t got = ::read(from_.get(), buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        text.append(buffer, static_cast<std::size_t>(got));
    }
    return true;
}

Error Sqlite::ended(const std::string& said) const {
    std::string how;
    siginfo_t info{};
    // It stays to be reaped: kill() may be called at any moment.
    if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) == 0)
        how = info.si_code == CLD_EXITED ? " with status " + std::to_string(info.si_status)
                                         : " by signal " + std::to_string(info.si_status);
    auto words = said.substr(said.size() - std::min<std::size_t>(said.size(), 300));
    while (words.ends_with('\n')) words.pop_back();
    return Error(Code::Gone,
                 "sqlite3 ended too early," + how + (words.empty() ? "" : ": " + words));
}

Result<std::string> Sqlite::ask(const std::string& sql) {
    std::string answer;
    const auto said = say(sql + kSayDone);
    // A process that is gone has perhaps said why.
    if (!said && said.error().sys_errno() != EPIPE) return said.error();
    auto is_done = read_until(kDone, answer);
    if (!is_done) return is_done.error();
    if (!*is_done) return ended(answer);
    answer.resize(answer.size() - kDone.size());
    return answer;
}

Status Sqlite::close() {
    to_.reset();
    std::string words;
    if (auto is_more = read_until("", words); !is_more) return is_more.error();
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !words.empty())
        return Error(Code::Io, "sqlite3 did not end in good order (status " +
                                   std::to_string(status) + ") " + words);
    return {};
}

}  // namespace refault::cli
