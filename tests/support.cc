// Integration test support.
#include "tests/support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <thread>

namespace refault::tests {

std::uint64_t test_seed() {
    const char* given = std::getenv("REFAULT_SEED");
    const std::uint64_t seed =
        given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::cout << "seed " << seed << " (replay with REFAULT_SEED=" << seed << ")\n";
    return seed;
}

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::yield();
        ::poll(nullptr, 0, 1);
    }
    return true;
}

TemporaryDirectory::TemporaryDirectory() : path_("/dev/shm/refault-test-XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "mkdtemp failed";
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code failure;
    std::filesystem::remove_all(path_, failure);
}

namespace {

cli::LocalDaemon start(const std::vector<std::string>& arguments) {
    auto daemon = cli::LocalDaemon::start(arguments);
    if (!daemon) throw std::runtime_error(daemon.error().message());
    return std::move(*daemon);
}

std::vector<std::string> create_arguments(const std::vector<std::string>& devices,
                                          const std::vector<std::string>& options) {
    auto arguments = options;
    arguments.insert(arguments.end(), {"--create", "test"});
    for (const auto& device : devices) arguments.insert(arguments.end(), {"--device", device});
    return arguments;
}

}  // namespace

Pool::Pool(cli::LocalDaemon daemon)
    : daemon_(std::make_unique<cli::LocalDaemon>(std::move(daemon))),
      control_(daemon_->control_socket()) {}

Pool::Pool(const std::vector<std::string>& devices, const std::vector<std::string>& options)
    : Pool(start(create_arguments(devices, options))) {}

Pool Pool::open(const std::vector<std::string>& devices) {
    std::vector<std::string> arguments;
    for (const auto& device : devices) arguments.insert(arguments.end(), {"--open", device});
    return Pool(start(arguments));
}

Json Pool::get(const std::string& target) {
    auto answer = control_.get(target);
    if (!answer) {
        ADD_FAILURE() << target << ": " << answer.error().message();
        return {};  // of which nothing can be read: it throws, and the test ends
    }
    return *answer;
}

Json Pool::post(const std::string& target, const Json& body) {
    auto answer = control_.post(target, body);
    if (!answer) {
        ADD_FAILURE() << target << ": " << answer.error().message();
        return Json::object();
    }
    return *answer;
}

void Pool::pull(const std::vector<std::string>& devices, Json options) {
    options["devices"] = devices;
    post("/v1/pull", options);
}

Json Pool::wait_for_phase(const std::string& device, const std::string& phase) {
    Json status;
    const bool reached = eventually([&] {
        status = get("/v1/removals/" + device);
        const auto now = status.value("phase", "");
        return now == phase || now == "safe" || now == "failed" || now == "cancelled";
    });
    EXPECT_TRUE(reached) << status.dump();
    EXPECT_EQ(status.value("phase", ""), phase) << status.dump();
    return status;
}

std::string Pool::power(const std::string& device) {
    return get("/v1/devices/" + device)["slot"].value("power", "?");
}

void Pool::expect_sound() {
    const auto answer = post("/v1/pool/check", Json::object());
    EXPECT_TRUE(answer.value("problems", Json::array()).empty()) << answer.dump();
}

MappedFile::MappedFile(Pool& pool, const std::string& path, std::uint64_t create_bytes) {
    EXPECT_EQ(rf_connect(pool.daemon().session_socket().c_str(), &session_, nullptr, 0), 0);
    if (session_ == nullptr) return;
    if (create_bytes > 0) {
        EXPECT_EQ(rf_create(session_, path.c_str(), 0600, RF_EXCLUSIVE, &file_), 0);
        EXPECT_EQ(rf_resize(file_, create_bytes), 0);
    } else {
        EXPECT_EQ(rf_open(session_, path.c_str(), RF_READ | RF_WRITE, &file_), 0);
    }
    rf_stat stat{};
    EXPECT_EQ(rf_file_stat(file_, &stat), 0);
    EXPECT_EQ(rf_map(file_, 0, stat.size_bytes, RF_READ | RF_WRITE, &mapping_), 0);
}

Writers::Writers(Pool& pool, std::size_t count, std::uint64_t file_bytes, const std::string& prefix)
    : records_(file_bytes / cli::kRecordBytes) {
    base::UniqueFd memory(::memfd_create("refault-test", MFD_CLOEXEC));
    if (!memory || ::ftruncate(memory.get(), sizeof(cli::DemoState)) != 0)
        throw std::runtime_error("memfd");
    void* block = ::mmap(nullptr, sizeof(cli::DemoState), PROT_READ | PROT_WRITE, MAP_SHARED,
                         memory.get(), 0);
    if (block == MAP_FAILED) throw std::runtime_error("mmap");
    shared_ = new (block) cli::DemoState;
    for (std::size_t i = 0; i < count; ++i) {
        auto pid = cli::start_program(
            cli::program_directory() + "/refault",
            {"demo-client", pool.daemon().session_socket(), prefix + std::to_string(i),
             std::to_string(file_bytes), std::to_string(memory.get()), std::to_string(i)},
            {memory.get()});
        if (!pid) throw std::runtime_error(pid.error().message());
        pids_.push_back(*pid);
    }
    EXPECT_TRUE(eventually([&] {
        for (std::size_t i = 0; i < count; ++i) {
            if (state(i).error.load() != 0)
                ADD_FAILURE() << "writer " << i << ": errno " << -state(i).error.load();
            if (state(i).is_running.load() == 0 && !::testing::Test::HasFailure()) return false;
        }
        return true;
    }));
}

Writers::~Writers() {
    for (const pid_t pid : pids_) {
        if (pid <= 0) continue;
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
    ::munmap(shared_, sizeof(cli::DemoState));
}

void Writers::let_run(std::uint64_t more) {
    std::vector<std::uint64_t> goals;
    for (std::size_t i = 0; i < pids_.size(); ++i) goals.push_back(operations(i) + more);
    EXPECT_TRUE(eventually([&] {
        for (std::size_t i = 0; i < pids_.size(); ++i)
            if (pids_[i] > 0 && operations(i) < goals[i]) return false;
        return true;
    }));
}

void Writers::stop_one(std::size_t i) {
    ::kill(pids_[i], SIGSTOP);
    int status = 0;
    EXPECT_EQ(::waitpid(pids_[i], &status, WUNTRACED), pids_[i]);
    EXPECT_TRUE(WIFSTOPPED(status)) << status;
}

void Writers::kill_one(std::size_t i) {
    ::kill(pids_[i], SIGKILL);
    ::waitpid(pids_[i], nullptr, 0);
    pids_[i] = -1;
}

void Writers::finish() {
    shared_->must_stop.store(1);
    for (std::size_t i = 0; i < pids_.size(); ++i) check(i);
}

void Writers::check(std::size_t i) {
    if (pids_[i] <= 0) return;
    int status = -1;
    const bool ended =
        eventually([&] { return ::waitpid(pids_[i], &status, WNOHANG) == pids_[i]; });
    ASSERT_TRUE(ended) << "writer " << i << " hangs";
    pids_[i] = -1;
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
        << "writer " << i << " ended with status " << status;
    EXPECT_EQ(state(i).signals.load(), 0u) << "writer " << i;
    EXPECT_EQ(state(i).bad_records.load(), 0u) << "writer " << i;
    EXPECT_EQ(state(i).verified_records.load(), records_) << "writer " << i;
    EXPECT_NE(state(i).address_first.load(), 0u);
    EXPECT_EQ(state(i).address_first.load(), state(i).address_last.load());
}

namespace {

std::string read_to_end(int fd) {
    std::string text;
    char buffer[4096];
    for (ssize_t got; (got = ::read(fd, buffer, sizeof buffer)) > 0;)
        text.append(buffer, static_cast<std::size_t>(got));
    return text;
}

}  // namespace

CommandResult run_refault(Pool& pool, const std::vector<std::string>& arguments) {
    TemporaryDirectory scratch;
    const std::string err_path = scratch.path() + "/err";
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return {};
    base::UniqueFd read_end(ends[0]), write_end(ends[1]);
    std::vector<std::string> shell{"-c", "exec \"$0\" \"$@\" 2>" + err_path,
                                   cli::program_directory() + "/refault", "--run-dir",
                                   pool.daemon().run_dir()};
    shell.insert(shell.end(), arguments.begin(), arguments.end());
    auto pid = cli::start_program("/bin/sh", shell, {}, {.out = write_end.get()});
    if (!pid) return {};
    write_end.reset();
    CommandResult result;
    result.out = read_to_end(read_end.get());
    int status = 0;
    ::waitpid(*pid, &status, 0);
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    std::ifstream err(err_path);
    result.err.assign(std::istreambuf_iterator<char>(err), {});
    return result;
}

std::vector<std::string> maps_lines_of(pid_t pid, const std::string& needle) {
    std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
    std::vector<std::string> found;
    for (std::string line; std::getline(maps, line);)
        if (line.find(needle) != line.npos) found.push_back(line);
    return found;
}

}  // namespace refault::tests
