// What integration tests share: a daemon of their own, writer processes, the control API,
// conditions to wait for. Everything started here ends with its object, also when an assertion
// fails.
#pragma once

#include <gtest/gtest.h>
#include <refault/refault.h>
#include <sys/types.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/control_client.h"
#include "cli/demo_state.h"
#include "cli/local_daemon.h"

namespace refault::tests {

using Json = nlohmann::json;

// From REFAULT_SEED, else from the clock; printed, so that a failing run can be replayed.
std::uint64_t test_seed();

// Polls until the condition holds or the time is over. The limit only bounds a failing test.
bool eventually(const std::function<bool()>& condition,
                std::chrono::milliseconds limit = std::chrono::seconds(60));

// A temporary directory in /dev/shm (tmpfs), removed at the end.
class TemporaryDirectory {
  public:
    TemporaryDirectory();
    ~TemporaryDirectory();
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

// An ordinary user's daemon cannot look into other users' processes, so it never says "safe".
#define NEEDS_PROOF() \
    if (::geteuid() != 0) GTEST_SKIP() << "saying \"safe\" takes a daemon of root"

class Pool {
  public:
    // devices: "NAME=ram:SIZE" and the like.
    // options: more arguments for refaultd.
    explicit Pool(const std::vector<std::string>& devices,
                  const std::vector<std::string>& options = {});
    static Pool open(const std::vector<std::string>& devices);

    cli::ControlClient& control() { return control_; }
    cli::LocalDaemon& daemon() { return *daemon_; }

    Json get(const std::string& target);
    Json post(const std::string& target, const Json& body);
    void pull(const std::vector<std::string>& devices, Json options = Json::object());
    // Waits for a phase; fails the test when the removal ends in another one.
    Json wait_for_phase(const std::string& device, const std::string& phase);
    std::string power(const std::string& device);
    void expect_sound();  // pool check finds nothing

  private:
    explicit Pool(cli::LocalDaemon daemon);
    std::unique_ptr<cli::LocalDaemon> daemon_;
    cli::ControlClient control_;
};

// Writer processes (`refault demo-client`), each with a file of its own.
class Writers {
  public:
    // Starts `count` (at most cli::kDemoClients) and waits until all have written every record
    // once.
    Writers(Pool& pool, std::size_t count, std::uint64_t file_bytes,
            const std::string& prefix = "/writer");
    ~Writers();

    pid_t pid(std::size_t i) const { return pids_[i]; }
    const cli::DemoClientState& state(std::size_t i) const { return shared_->clients[i]; }
    std::uint64_t operations(std::size_t i) const {
        return state(i).writes.load() + state(i).reads.load();
    }
    // Waits until each living writer has done that many more operations.
    void let_run(std::uint64_t operations);
    void kill_one(std::size_t i);
    // SIGSTOP, and waits until every thread has stopped.
    void stop_one(std::size_t i);
    // Tells them to stop, and checks every record, every address, every exit.
    void finish();

  private:
    void check(std::size_t i);
    cli::DemoState* shared_ = nullptr;
    std::vector<pid_t> pids_;
    std::uint64_t records_ = 0;
};

// A file of the pool, mapped as a whole by this process.
class MappedFile {
  public:
    // Makes it with `create_bytes`, or opens it when that is 0.
    MappedFile(Pool& pool, const std::string& path, std::uint64_t create_bytes = 0);
    ~MappedFile() { rf_disconnect(session_); }
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    rf_session* session() const { return session_; }
    rf_file* file() const { return file_; }
    rf_mapping* mapping() const { return mapping_; }
    // Null when it could not be mapped.
    volatile char* bytes() const {
        return mapping_ == nullptr ? nullptr : static_cast<volatile char*>(rf_address(mapping_));
    }

  private:
    rf_session* session_ = nullptr;
    rf_file* file_ = nullptr;
    rf_mapping* mapping_ = nullptr;
};

// Runs `refault ARGUMENTS...` against the pool; output and exit status.
struct CommandResult {
    int status = -1;
    std::string out;
    std::string err;
};
CommandResult run_refault(Pool& pool, const std::vector<std::string>& arguments);

// True when any process maps a segment of this device's directory, by the kernel's word.
std::vector<std::string> maps_lines_of(pid_t pid, const std::string& needle);

}  // namespace refault::tests
