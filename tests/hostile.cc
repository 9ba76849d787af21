// A raw client, and what must hold beside it.
#include "tests/hostile.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "sys/socket.h"

namespace refault::tests {

namespace {
constexpr int kPatienceMs = 60'000;  // bounds a failing test
constexpr std::size_t kPoliteBytes = 4u << 20;
// What is put aside for later by the allocator and the kernel's tables, not for a client.
constexpr std::size_t kSlackKib = 48 * 1024;
constexpr std::size_t kSlackDescriptors = 8;
}  // namespace

int as_user(uid_t uid, const std::function<int()>& body) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        if (uid != 0 && (::setgid(uid) != 0 || ::setuid(uid) != 0)) ::_exit(120);
        ::signal(SIGPIPE, SIG_IGN);  // as the command does
        ::_exit(body());
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int create_filled(const std::string& socket, const char* path, mode_t mode, char value,
                  std::uint64_t size) {
    rf_session* session = nullptr;
    rf_file* file = nullptr;
    rf_mapping* mapping = nullptr;
    if (rf_connect(socket.c_str(), &session, nullptr, 0) != 0) return 10;
    if (rf_create(session, path, mode, RF_EXCLUSIVE, &file) != 0) return 11;
    if (rf_resize(file, size) != 0) return 12;
    if (rf_map(file, 0, size, RF_READ | RF_WRITE, &mapping) != 0) return 13;
    auto* bytes = static_cast<volatile char*>(rf_address(mapping));
    for (std::uint64_t at = 0; at < size; at += 4096)
        if (bytes[at] != 0 || bytes[at + 4095] != 0) return 14;
    std::memset(rf_address(mapping), value, size);
    rf_disconnect(session);
    return 0;
}

RawClient::RawClient(const std::string& socket) {
    auto connected = sys::connect_seqpacket(socket);
    if (connected) channel_ = std::move(*connected);
}

bool RawClient::say_hello(bool returns) {
    auto made = sys::create_userfaultfd();
    auto pair = sys::seqpacket_pair();
    if (!made || !pair) return false;
    userfaultfd_ = std::move(made->fd);
    pager_ = std::move(pair->first);
    return say_hello({userfaultfd_.get(), pair->second.get()}, returns);
}

bool RawClient::say_hello(const std::vector<int>& descriptors, bool returns) {
    if (!sys::send_message(channel_.get(), wire::encode(wire::Hello{true, returns}), descriptors))
        return false;
    auto answer = sys::receive_message(channel_.get(), wire::kMessageBytesMax);
    if (!answer) return false;
    const auto reply = wire::decode_reply(answer->bytes);
    return reply && reply->error == 0;
}

std::optional<wire::Reply> RawClient::ask(const wire::Request& request) {
    if (!sys::send_message(channel_.get(), wire::encode(request))) return std::nullopt;
    auto answer = sys::receive_message(channel_.get(), wire::kMessageBytesMax);
    if (!answer) return std::nullopt;
    auto reply = wire::decode_reply(answer->bytes);
    if (!reply) return std::nullopt;
    return std::move(*reply);
}

bool RawClient::send(std::span<const std::uint8_t> bytes, std::span<const int> descriptors) {
    return sys::send_message(channel_.get(), bytes, descriptors).ok();
}

bool RawClient::send_to_pager(const wire::PagerMessage& message, std::span<const int> descriptors) {
    return sys::send_message(pager_.get(), wire::encode(message), descriptors, /*may_wait=*/false)
        .ok();
}

bool RawClient::is_hung_up_on() {
    for (;;) {
        pollfd wait_for{channel_.get(), POLLIN, 0};
        if (::poll(&wait_for, 1, kPatienceMs) <= 0) return false;
        char buffer[65536];
        if (::recv(channel_.get(), buffer, sizeof buffer, MSG_DONTWAIT) <= 0) return true;
    }
}

Besieged::Besieged(const std::vector<std::string>& options)
    : pool_({"a=ram:64M", "b=ram:64M"}, options), socket_(pool_.daemon().session_socket()) {
    // Other users have to come through to the socket.
    std::filesystem::permissions(pool_.daemon().run_dir(), std::filesystem::perms(0755));
    polite_.emplace(pool_, "/polite", kPoliteBytes);
    expect_polite_goes_on();
    before_ = use();
    first_event_ = pool_.get("/v1/status").value("last_event", std::uint64_t{0});
}

Besieged::~Besieged() {
    polite_.reset();
    pool_.expect_sound();
}

Besieged::Use Besieged::use() {
    Use now;
    const std::string proc = "/proc/" + std::to_string(pool_.daemon().pid());
    for (const auto& entry : std::filesystem::directory_iterator(proc + "/fd")) {
        (void)entry;
        ++now.descriptors;
    }
    std::ifstream status(proc + "/status");
    for (std::string word; status >> word;)
        if (word == "RssAnon:") status >> now.anonymous_kib;
    return now;
}

void Besieged::expect_refused(const std::string& reason) {
    Json events;
    const bool is_told = eventually([&] {
        events = pool_.get("/v1/events/list?after=" + std::to_string(first_event_))["events"];
        for (const auto& event : events)
            if (event.value("kind", "") == "session-refused" &&
                event.value("reason", "").find(reason) != std::string::npos)
                return true;
        return false;
    });
    EXPECT_TRUE(is_told) << "nobody was refused because of '" << reason << "': " << events.dump();
}

std::uint64_t Besieged::refused(const std::string& channel, const std::string& word) {
    const auto limits = pool_.get("/v1/limits");
    for (const auto& one : limits["refused"])
        if (one.value("channel", "") == channel && one.value("reason", "") == word)
            return one.value("count", std::uint64_t{0});
    return 0;
}

void Besieged::expect_polite_goes_on() {
    volatile char* const bytes = polite_->bytes();
    ASSERT_NE(bytes, nullptr);
    ++round_;
    for (std::size_t at = 0; at < kPoliteBytes; at += 4096)
        bytes[at] = static_cast<char>(round_ + static_cast<char>(at / 4096));
    // A new mapping: its places are fetched and mapped, its first touches answered.
    MappedFile again(pool_, "/polite");
    ASSERT_NE(again.bytes(), nullptr);
    for (std::size_t at = 0; at < kPoliteBytes; at += 4096)
        ASSERT_EQ(again.bytes()[at], static_cast<char>(round_ + static_cast<char>(at / 4096)));
}

void Besieged::expect_nothing_kept() {
    Use now;
    const bool is_back = eventually(
        [&] {
            now = use();
            return now.descriptors <= before_.descriptors + kSlackDescriptors;
        },
        std::chrono::seconds(30));
    EXPECT_TRUE(is_back) << now.descriptors << " descriptors, and " << before_.descriptors
                         << " before";
    // A sanitizer keeps what was freed.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_LE(now.anonymous_kib, before_.anonymous_kib + kSlackKib) << "KiB of memory";
#endif
}

}  // namespace refault::tests
