// For tests: a session with a test daemon, and what tests of mappings need again and again.
#pragma once

#include <gtest/gtest.h>
#include <refault/refault.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "client/test_daemon.h"

namespace refault::client::testing {

// REFAULT_SEED in the environment replays a random test.
inline std::uint64_t test_seed() {
    const char* replay = std::getenv("REFAULT_SEED");
    const std::uint64_t seed =
        replay != nullptr ? std::strtoull(replay, nullptr, 10) : std::random_device{}();
    std::cout << "REFAULT_SEED=" << seed << std::endl;
    return seed;
}

// A condition that another thread brings about.
inline void wait_until(const char* what, const auto& condition) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline)
            give_up(std::string("waited too long for ") + what);
        std::this_thread::yield();
    }
}

inline std::string detail_of(const rf_session* session) {
    char text[1000];
    (void)rf_error_detail(session, text, sizeof text);
    return text;
}

// The memory signal that the action raises, or 0. One thread at a time.
inline sigjmp_buf g_signal_jump;
inline int signal_of(const auto& action) {
    struct sigaction before_bus, before_segv, handler{};
    handler.sa_handler = [](int number) { siglongjmp(g_signal_jump, number); };
    ::sigaction(SIGBUS, &handler, &before_bus);
    ::sigaction(SIGSEGV, &handler, &before_segv);
    const int number = sigsetjmp(g_signal_jump, 1);
    if (number == 0) action();
    ::sigaction(SIGBUS, &before_bus, nullptr);
    ::sigaction(SIGSEGV, &before_segv, nullptr);
    return number;
}
inline int signal_of_read(const volatile std::uint8_t* byte) {
    return signal_of([byte] { (void)*byte; });
}
inline int signal_of_write(volatile std::uint8_t* byte) {
    return signal_of([byte] { *byte = 1; });
}

// Runs `body` in a child and returns its status as waitpid gives it.
inline int status_of_child(const auto& body) {
    const pid_t child = ::fork();
    if (child == 0) {
        // Sanitizers and test frameworks have handlers of their own.
        ::signal(SIGSEGV, SIG_DFL);
        ::signal(SIGBUS, SIG_DFL);
        ::_exit(body());
    }
    int status = -1;
    if (child < 0 || ::waitpid(child, &status, 0) != child) give_up("fork or waitpid");
    return status;
}

class SessionTest : public ::testing::Test {
  protected:
    static constexpr const char* kPath = "/file";
    static constexpr std::uint64_t kFileBytes = 8 * kPartBytes;

    void SetUp() override {
        daemon_ = std::make_unique<TestDaemon>();
        daemon_->set_file(kPath, kFileBytes);
        connect();
        open(RF_READ | RF_WRITE);
    }
    void TearDown() override { rf_disconnect(session_); }

    void connect() {
        char detail[1000] = "";
        const int result =
            rf_connect(daemon_->socket_path().c_str(), &session_, detail, sizeof detail);
        ASSERT_EQ(result, 0) << detail;
    }
    void open(int flags) {
        ASSERT_EQ(rf_open(session_, kPath, flags, &file_), 0) << detail_of(session_);
    }
    rf_mapping* map(int flags, std::uint64_t offset = 0, std::uint64_t length = kFileBytes) {
        rf_mapping* mapping = nullptr;
        EXPECT_EQ(rf_map(file_, offset, length, flags, &mapping), 0) << detail_of(session_);
        return mapping;
    }
    static volatile std::uint8_t* bytes_of(const rf_mapping* mapping) {
        return static_cast<volatile std::uint8_t*>(rf_address(mapping));
    }

    std::unique_ptr<TestDaemon> daemon_;
    rf_session* session_ = nullptr;
    rf_file* file_ = nullptr;
};

}  // namespace refault::client::testing
