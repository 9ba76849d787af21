// What the tests of hostile clients share: a raw connection that says what it likes, a polite
// client beside it that must go on, and what the daemon has in use. Not thread-safe.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "sys/userfaultfd.h"
#include "tests/support.h"
#include "wire/message.h"

namespace refault::tests {

inline constexpr uid_t kAlice = 61001;
inline constexpr uid_t kBob = 61002;

// Runs the body in a child process of that user (0: this one's); the result is its exit status, 128
// and the signal when it was ended by one.
int as_user(uid_t uid, const std::function<int()>& body);

// A file full of this byte, made by the library; the calling process's user is its owner. 0, or
// which step has failed; 14 when its memory has somebody's bytes.
int create_filled(const std::string& socket, const char* path, mode_t mode, char value,
                  std::uint64_t size);

// The session channel by hand. `is_connected` is false when nobody listens.
class RawClient {
  public:
    explicit RawClient(const std::string& socket);

    bool is_connected() const { return static_cast<bool>(channel_); }
    int channel() const { return channel_.get(); }
    int pager() const { return pager_.get(); }
    int userfaultfd() const { return userfaultfd_.get(); }
    // With a userfaultfd and a pager channel of its own, or with these two. False when refused.
    bool say_hello(bool returns = false);
    bool say_hello(const std::vector<int>& descriptors, bool returns = false);
    // The reply; none when the daemon has hung up.
    std::optional<wire::Reply> ask(const wire::Request& request);
    bool send(std::span<const std::uint8_t> bytes, std::span<const int> descriptors = {});
    bool send_to_pager(const wire::PagerMessage& message, std::span<const int> descriptors = {});
    // Waits, within bounds, until the daemon has hung up, reading what it says before.
    bool is_hung_up_on();

  private:
    base::UniqueFd channel_, pager_, userfaultfd_;
};

// A daemon under attack: remembers what it had in use, and says whether it has it still.
class Besieged {
  public:
    explicit Besieged(const std::vector<std::string>& options = {});
    ~Besieged();

    Pool& pool() { return pool_; }
    const std::string& socket() const { return socket_; }
    // The newest refusal says this: among the events, and counted.
    void expect_refused(const std::string& reason);
    std::uint64_t refused(const std::string& channel, const std::string& word);
    // A client that was there before does all that there is to do: a fault is answered, a device
    // pulled from under it, its bytes are right.
    void expect_polite_goes_on();
    // Descriptors and memory are about what they were.
    void expect_nothing_kept();

  private:
    struct Use {
        std::size_t descriptors = 0;
        std::size_t anonymous_kib = 0;
    };
    Use use();

    Pool pool_;
    std::string socket_;
    std::optional<MappedFile> polite_;
    Use before_;
    std::uint64_t first_event_ = 0;
    char round_ = 0;
};

}  // namespace refault::tests
