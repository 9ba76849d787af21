// Mounting and unmounting around a test.
#include "tests/mount_support.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "base/unique_fd.h"
#include "sys/mount.h"

namespace refault::tests {

Mounted::Mounted(Pool& pool, const std::string& options)
    : pool_(pool), path_(scratch_.path() + "/mount") {
    // Others may look into it.
    if (::chmod(scratch_.path().c_str(), 0755) != 0) ADD_FAILURE() << "chmod";
    if (::mkdir(path_.c_str(), 0755) != 0) ADD_FAILURE() << "mkdir " << path_;
    pool.post("/v1/mounts", {{"directory", path_}, {"options", options}});
}

Mounted::~Mounted() {
    (void)pool_.control().post("/v1/unmount", {{"directory", path_}, {"force", true}});
    // Of a daemon that is gone.
    if (is_mounted()) base::discard(sys::unmount_fuse(path_, /*is_lazy=*/true), "the last resort");
}

bool Mounted::is_mounted() const {
    return sys::mounted_device(path_) != 0;
}

std::string Mounted::connection() const {
    return std::to_string(minor(sys::mounted_device(path_)));
}

namespace {
std::string line(const char* verb, std::initializer_list<std::uint64_t> numbers) {
    std::string text = verb;
    for (const auto number : numbers) text += " " + std::to_string(number);
    return text;
}
}  // namespace

std::string Filer::store(std::uint64_t offset, unsigned byte, std::uint64_t length) {
    return say(line("store", {offset, byte, length}));
}
std::string Filer::load(std::uint64_t offset, std::uint64_t length) {
    return say(line("load", {offset, length}));
}
std::string Filer::pread(std::uint64_t offset, std::uint64_t length) {
    return say(line("pread", {offset, length}));
}
std::string Filer::pwrite(std::uint64_t offset, unsigned byte, std::uint64_t length) {
    return say(line("pwrite", {offset, byte, length}));
}

Child::Child(const std::function<int()>& work) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::_exit(work());
}

Child::~Child() {
    if (pid_ <= 0 || status_ != -1) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

int Child::wait(std::chrono::milliseconds limit) {
    if (pid_ <= 0 || status_ != -1) return status_;
    int status = 0;
    if (!eventually([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; }, limit)) return -1;
    return status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int errno_of(const std::function<bool()>& call) {
    return Child([&] { return call() ? 0 : errno; }).wait();
}

bool no_child_hangs() {
    const auto hanging = [] {
        for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
            std::string text;
            std::getline(std::ifstream(entry.path() / "stat"), text);
            char state = 0;
            int parent = 0;
            // The name before them may have any bytes.
            const auto name_end = text.rfind(')');
            if (name_end == text.npos ||
                std::sscanf(text.c_str() + name_end, ") %c %d", &state, &parent) != 2)
                continue;
            if (parent == ::getpid() && state == 'D') return true;
        }
        return false;
    };
    return eventually([&] { return !hanging(); }, std::chrono::seconds(10));
}

std::string failed(int error) {
    return "error " + std::to_string(error);
}

CommandResult shell(const std::string& directory, const std::string& text, int seconds) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return {};
    base::UniqueFd read_end(ends[0]), write_end(ends[1]);
    auto pid = cli::start_program("/usr/bin/timeout",
                                  {"-k", "1", std::to_string(seconds), "/bin/bash", "-c",
                                   "exec 2>&1; set -e; cd '" + directory + "'; " + text},
                                  {}, {.out = write_end.get()});
    if (!pid) return {};
    write_end.reset();
    CommandResult result;
    char buffer[4096];
    for (ssize_t got; (got = ::read(read_end.get(), buffer, sizeof buffer)) > 0;)
        result.out.append(buffer, static_cast<std::size_t>(got));
    int status = 0;
    ::waitpid(*pid, &status, 0);
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return result;
}

}  // namespace refault::tests
