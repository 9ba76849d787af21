// Pipes to and from the programs.
#include "tests/mapper_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

namespace refault::tests {

namespace {
// Only bounds a test that fails.
constexpr int kHangMs = 60'000;
}  // namespace

Talker::Talker(const std::vector<std::string>& arguments) {
    int to[2], from[2];
    if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0)
        throw std::runtime_error("pipe");
    auto words = arguments;
    if (!words[0].starts_with('/')) words[0] = cli::program_directory() + "/" + words[0];
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
        ::dup2(to[0], STDIN_FILENO);
        ::dup2(from[1], STDOUT_FILENO);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    ::close(to[0]);
    ::close(from[1]);
    commands_ = base::UniqueFd(to[1]);
    answers_ = ::fdopen(from[0], "r");
    // answer() waits on the pipe: nothing may lie in a buffer behind it.
    ::setvbuf(answers_, nullptr, _IONBF, 0);
    greeting_ = answer();
}

Talker::~Talker() {
    kill();
    ::fclose(answers_);
}

namespace {

std::vector<std::string> mapper_words(Pool& pool, const std::string& path, Mapper::Access access,
                                      Mapper::Notice notice) {
    std::vector<std::string> words{"refault-mapper", pool.daemon().session_socket(), path,
                                   access == Mapper::Access::Read ? "read" : "write"};
    if (notice != Mapper::Notice::Late)
        words.push_back(notice == Mapper::Notice::Early ? "early" : "descriptor");
    return words;
}

}  // namespace

Mapper::Mapper(Pool& pool, const std::string& path, Access access, Notice notice)
    : Talker(mapper_words(pool, path, access, notice)) {
    EXPECT_EQ(greeting(), "ready");
}

void Talker::stop() {
    ::kill(pid_, SIGSTOP);
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, WUNTRACED), pid_);
    EXPECT_TRUE(WIFSTOPPED(status)) << status;
}

void Talker::go_on() {
    ::kill(pid_, SIGCONT);
}

bool Talker::has_ended() {
    int status = 0;
    if (pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) pid_ = -1;
    return pid_ <= 0;
}

void Talker::kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    (void)wait_for_end();
}

int Talker::wait_for_end() {
    int status = 0;
    if (pid_ > 0) ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
}

void Talker::begin(const std::string& line) {
    const auto whole = line + "\n";
    (void)!::write(commands_.get(), whole.data(), whole.size());
}

std::string Talker::answer() {
    char line[4096];
    pollfd ready{::fileno(answers_), POLLIN, 0};
    if (::poll(&ready, 1, kHangMs) == 0) {
        ADD_FAILURE() << "pid " << pid_ << " hangs";
        return {};
    }
    if (std::fgets(line, sizeof line, answers_) == nullptr) return {};
    std::string text = line;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

std::string Talker::say(const std::string& line) {
    begin(line);
    return answer();
}

std::string Mapper::store(std::uint64_t offset, unsigned byte, std::uint64_t length) {
    return say("store " + std::to_string(offset) + " " + std::to_string(byte) + " " +
               std::to_string(length));
}

std::string Mapper::load(std::uint64_t offset, std::uint64_t length) {
    return say("load " + std::to_string(offset) + " " + std::to_string(length));
}

std::string Mapper::persist(std::uint64_t offset, std::uint64_t length) {
    return say("persist " + std::to_string(offset) + " " + std::to_string(length));
}

std::string lost_at(std::uint64_t offset) {
    return "sigbus " + std::to_string(BUS_MCEERR_AR) + " " + std::to_string(offset) + " 12";
}

}  // namespace refault::tests
