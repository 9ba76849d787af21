// Clients that lie, flood, or fall silent: each is hung up on with a reason that is told, a polite
// client beside it goes on, and the daemon keeps nothing of it.
#include "tests/hostile.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <memory>

#include "sys/socket.h"

namespace refault::tests {
namespace {

constexpr std::size_t kDescriptorFlood = 253;  // the most that one message carries

// A process that does its worst, says so, and then stays as it is until it is let go.
class Villain {
  public:
    explicit Villain(uid_t uid, const std::function<int()>& deed) {
        int ready[2], release[2];
        if (::pipe2(ready, O_CLOEXEC) != 0 || ::pipe2(release, O_CLOEXEC) != 0)
            throw std::runtime_error("pipe");
        pid_ = ::fork();
        if (pid_ == 0) {
            ::close(release[1]);
            if (uid != 0 && (::setgid(uid) != 0 || ::setuid(uid) != 0)) ::_exit(120);
            const int result = deed();
            char byte = static_cast<char>(result);
            (void)!::write(ready[1], &byte, 1);
            (void)!::read(release[0], &byte, 1);
            ::_exit(0);
        }
        ::close(ready[1]);
        ::close(release[0]);
        release_ = base::UniqueFd(release[1]);
        const base::UniqueFd from(ready[0]);
        char byte = -1;
        if (::read(from.get(), &byte, 1) == 1) result_ = byte;
    }
    ~Villain() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    // 0 when the deed was done; what it returned otherwise.
    int result() const { return result_; }
    pid_t pid() const { return pid_; }

  private:
    pid_t pid_ = -1;
    int result_ = -1;
    base::UniqueFd release_;
};

void raise_own_descriptor_limit() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

TEST(Hostile, WhoSaysNothingIsHungUpOn) {
    Besieged daemon({"--hello-timeout", "200"});
    std::vector<std::unique_ptr<RawClient>> silent;
    for (int i = 0; i < 20; ++i) silent.push_back(std::make_unique<RawClient>(daemon.socket()));
    daemon.expect_polite_goes_on();
    for (auto& client : silent) EXPECT_TRUE(client->is_hung_up_on());
    daemon.expect_refused("no Hello in 200 ms");
    EXPECT_GE(daemon.refused("session", "silent"), 20u);
    silent.clear();
    daemon.expect_nothing_kept();
}

TEST(Hostile, HalfMessagesEndTheSession) {
    Besieged daemon;
    const auto whole = wire::encode(wire::Request(wire::CreateFile{"/half", 0600, true}));
    for (std::size_t length = 1; length < whole.size(); ++length) {
        RawClient client(daemon.socket());
        ASSERT_TRUE(client.say_hello());
        ASSERT_TRUE(client.send(std::span(whole).first(length)));
        EXPECT_TRUE(client.is_hung_up_on()) << length;
    }
    // A Hello that is none, and a message longer than there may be.
    RawClient other(daemon.socket());
    ASSERT_TRUE(other.send(whole));
    EXPECT_TRUE(other.is_hung_up_on());
    RawClient longer(daemon.socket());
    ASSERT_TRUE(longer.say_hello());
    const std::vector<std::uint8_t> much(wire::kMessageBytesMax + 1);
    ASSERT_TRUE(longer.send(much));
    EXPECT_TRUE(longer.is_hung_up_on());
    daemon.expect_refused("too long");
    EXPECT_GE(daemon.refused("session", "bad-message"), whole.size());
    daemon.expect_polite_goes_on();
    daemon.expect_nothing_kept();
}

TEST(Hostile, ThousandsOfConnectionsOfOneUserLeaveRoomForOthers) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
    raise_own_descriptor_limit();
    Besieged daemon;
    {
        Villain villain(kAlice, [&] {
            static std::vector<std::unique_ptr<RawClient>> all;
            for (int i = 0; i < 3000; ++i) {
                all.push_back(std::make_unique<RawClient>(daemon.socket()));
                if (!all.back()->is_connected()) return 1;
            }
            return 0;
        });
        EXPECT_EQ(villain.result(), 0);
        daemon.expect_polite_goes_on();
        daemon.expect_refused("user 61001 has 256 sessions open");
        EXPECT_GE(daemon.refused("session", "too-many-of-user"), 1000u);
        EXPECT_EQ(as_user(kBob,
                          [&] {
                              RawClient client(daemon.socket());
                              return client.say_hello() ? 0 : 1;
                          }),
                  0);
    }
    daemon.expect_nothing_kept();
}

TEST(Hostile, WithoutDescriptorsClientsAreShedAndServedAgainLater) {
    Besieged daemon;
    rlimit before{};
    ASSERT_EQ(::prlimit(daemon.pool().daemon().pid(), RLIMIT_NOFILE, nullptr, &before), 0);
    const auto metrics = daemon.pool().control().get_bytes("/metrics");
    ASSERT_TRUE(metrics);
    const std::string name = "\nrefault_process_open_fds ";
    const auto open =
        std::strtoul(metrics->c_str() + metrics->find(name) + name.size(), nullptr, 10);
    const rlimit few{open + 6, before.rlim_max};
    ASSERT_EQ(::prlimit(daemon.pool().daemon().pid(), RLIMIT_NOFILE, &few, nullptr), 0);
    std::vector<std::unique_ptr<RawClient>> all;
    for (int i = 0; i < 100; ++i) all.push_back(std::make_unique<RawClient>(daemon.socket()));
    int hung_up = 0;
    for (std::size_t i = all.size(); i-- > 50;) hung_up += all[i]->is_hung_up_on() ? 1 : 0;
    EXPECT_EQ(hung_up, 50);
    ASSERT_EQ(::prlimit(daemon.pool().daemon().pid(), RLIMIT_NOFILE, &before, nullptr), 0);
    all.clear();
    EXPECT_GE(daemon.refused("session", "no-descriptors"), 50u);
    daemon.expect_polite_goes_on();
    daemon.expect_nothing_kept();
}

TEST(Hostile, WhoNeverReadsAnswersIsHungUpOn) {
    Besieged daemon({"--reply-timeout", "300"});
    RawClient client(daemon.socket());
    ASSERT_TRUE(client.say_hello());
    const auto question = wire::encode(wire::Request(wire::List{"/", ""}));
    pollfd hung_up{client.channel(), POLLRDHUP, 0};
    const bool is_over = eventually([&] {
        (void)sys::send_message(client.channel(), question, {}, /*may_wait=*/false);
        return ::poll(&hung_up, 1, 0) > 0;
    });
    EXPECT_TRUE(is_over);
    daemon.expect_refused("does not read its answers");
    EXPECT_EQ(daemon.refused("session", "not-reading"), 1u);
    daemon.expect_polite_goes_on();
    daemon.expect_nothing_kept();
}

TEST(Hostile, APagerThatAsksAndNeverReadsIsHungUpOn) {
    Besieged daemon;
    RawClient client(daemon.socket());
    ASSERT_TRUE(client.say_hello());
    const bool is_over = eventually([&] {
        (void)client.send_to_pager(wire::Fetch{0});
        pollfd hung_up{client.channel(), POLLRDHUP, 0};
        return ::poll(&hung_up, 1, 0) > 0;
    });
    EXPECT_TRUE(is_over);
    daemon.expect_refused("asks for more places than it reads");
    daemon.expect_polite_goes_on();
    daemon.expect_nothing_kept();
}

TEST(Hostile, FaultsWithoutEndAreRefusedAndOthersAreAnswered) {
    Besieged daemon({"--faults-per-session", "16"});
    RawClient client(daemon.socket());
    ASSERT_TRUE(client.say_hello());
    const auto file = client.ask(wire::OpenFile{"/polite", base::Access::ReadWrite});
    ASSERT_TRUE(file && file->error == 0);
    constexpr std::uint64_t kBytes = 1u << 20;
    void* const reserved =
        ::mmap(nullptr, 8 * kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const auto address = reinterpret_cast<std::uintptr_t>(reserved);
    const auto mapped =
        client.ask(wire::Map{file->handle, 0, kBytes, address, base::Access::ReadWrite, false});
    ASSERT_TRUE(mapped && mapped->error == 0);
    // No place is fetched, so no fault has a verdict.
    for (std::uint32_t i = 0; i < 100; ++i)
        (void)client.send_to_pager(wire::Fault{i, address, false, 0});
    EXPECT_TRUE(client.is_hung_up_on());
    daemon.expect_refused("--faults-per-session");
    daemon.expect_polite_goes_on();
    ::munmap(reserved, 8 * kBytes);
    daemon.expect_nothing_kept();
}

TEST(Hostile, FloodsOfDescriptorsAreClosedAndEndTheSession) {
    Besieged daemon;
    const base::UniqueFd file(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const std::vector<int> flood(kDescriptorFlood, file.get());
    const auto question = wire::encode(wire::Request(wire::List{"/", ""}));
    for (int i = 0; i < 20; ++i) {
        RawClient greeting(daemon.socket());
        EXPECT_FALSE(greeting.say_hello(flood));
        RawClient session(daemon.socket());
        ASSERT_TRUE(session.say_hello());
        // A kernel that can refuses to send them.
        if (session.send(question, flood)) {
            EXPECT_TRUE(session.is_hung_up_on());
        }
        RawClient pager(daemon.socket());
        ASSERT_TRUE(pager.say_hello());
        if (pager.send_to_pager(wire::Fetch{0}, flood)) {
            EXPECT_TRUE(pager.is_hung_up_on());
        }
    }
    daemon.expect_refused("two descriptors");
    daemon.expect_refused("descriptors where none belong");
    daemon.expect_polite_goes_on();
    daemon.expect_nothing_kept();
}

// A client may be wrong about its addresses; only what is no message at all ends its session.
TEST(Hostile, RangesThatCannotBeAreRefusedOneByOne) {
    Besieged daemon;
    RawClient client(daemon.socket());
    ASSERT_TRUE(client.say_hello());
    const auto file = client.ask(wire::OpenFile{"/polite", base::Access::ReadWrite});
    ASSERT_TRUE(file && file->error == 0);
    const auto map = [&](std::uint64_t offset, std::uint64_t length, std::uint64_t address) {
        const auto reply = client.ask(
            wire::Map{file->handle, offset, length, address, base::Access::ReadWrite, false});
        return reply ? reply->error : -1;
    };
    constexpr std::uint64_t kAt = 0x100000000;
    EXPECT_EQ(map(0, 1u << 20, kAt), 0);
    EXPECT_NE(map(0, 1u << 20, kAt), 0) << "the same addresses";
    EXPECT_NE(map(0, 1u << 20, kAt + (1u << 20)), 0) << "where its copies are";
    EXPECT_NE(map(0, 4096, kAt - 4096), 0) << "its copies would lie over the first";
    EXPECT_NE(map(1, 4096, 0x200000000), 0) << "no whole pages";
    EXPECT_NE(map(0, 0, 0x200000000), 0) << "empty";
    EXPECT_NE(map(0, ~std::uint64_t{4095}, 0x200000000), 0) << "wraps around";
    EXPECT_NE(map(0, 4096, ~std::uint64_t{4095}), 0) << "the kernel's addresses";
    EXPECT_NE(map(~std::uint64_t{4095}, 4096, 0x200000000), 0) << "beyond every file";
    const auto mine = client.ask(wire::Unmap{base::MappingId(~std::uint64_t{0})});
    ASSERT_TRUE(mine);
    EXPECT_NE(mine->error, 0);
    const auto others = client.ask(wire::Unmap{base::MappingId(1)});
    ASSERT_TRUE(others);
    EXPECT_NE(others->error, 0) << "the polite client's mapping";
    daemon.expect_polite_goes_on();
}

// The daemon acts on addresses by the client's own userfaultfd, so naming another's reaches
// nothing of his.
TEST(Hostile, AnotherClientsAddressesAreOutOfReach) {
    Besieged daemon;
    MappedFile victim(daemon.pool(), "/victim", 4u << 20);
    ASSERT_NE(victim.bytes(), nullptr);
    for (std::size_t at = 0; at < (4u << 20); at += 4096) victim.bytes()[at] = 'V';
    const auto address = reinterpret_cast<std::uintptr_t>(victim.bytes());
    Villain villain(0, [&] {
        static RawClient client(daemon.socket());
        if (!client.say_hello()) return 1;
        const auto file = client.ask(wire::OpenFile{"/victim", base::Access::ReadWrite});
        if (!file || file->error != 0) return 2;
        // Not mapped here: fork has left it out.
        const auto mapped = client.ask(
            wire::Map{file->handle, 0, 4u << 20, address, base::Access::ReadWrite, false});
        if (!mapped || mapped->error != 0) return 3;
        for (std::uint64_t placed = 0, parts = 1; parts > 0;) {
            if (!client.send_to_pager(wire::Fetch{placed})) return 4;
            auto message = sys::receive_message(client.pager(), wire::kMessageBytesMax);
            if (!message) return 5;
            auto decoded = wire::decode_pager_message(message->bytes);
            if (!decoded) return 6;
            if (const auto* places = std::get_if<wire::Places>(&*decoded)) {
                parts = places->places.size();
                placed = places->sequence;
            }
        }
        return 0;
    });
    ASSERT_EQ(villain.result(), 0);
    daemon.pool().pull({"b"});
    if (::geteuid() == 0)
        daemon.pool().wait_for_phase("b", "safe");
    else
        daemon.pool().wait_for_phase("b", "unproven");
    for (std::size_t at = 0; at < (4u << 20); at += 4096) {
        ASSERT_EQ(victim.bytes()[at], 'V');
        victim.bytes()[at] = 'W';
    }
    daemon.expect_polite_goes_on();
}

TEST(Hostile, UserfaultfdsThatAreNoneOrOthersDoNoHarm) {
    Besieged daemon;
    auto pair = sys::seqpacket_pair();
    ASSERT_TRUE(pair);
    const int pager = pair->second.get();
    const base::UniqueFd file(::memfd_create("no-userfaultfd", MFD_CLOEXEC));
    for (const auto& sent : {std::vector<int>{file.get(), pager}, std::vector<int>{pager, pager},
                             std::vector<int>{pager}, std::vector<int>{}}) {
        RawClient client(daemon.socket());
        EXPECT_FALSE(client.say_hello(sent));
        EXPECT_TRUE(client.is_hung_up_on());
    }
    daemon.expect_refused("no userfaultfd");
    daemon.expect_refused("two descriptors");
    // With events that nobody reads, every change of its memory by the daemon would wait.
    auto waiting = sys::create_userfaultfd();
    ASSERT_TRUE(waiting);
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP;
    ASSERT_EQ(::ioctl(waiting->fd.get(), UFFDIO_API, &api), 0);
    RawClient eventful(daemon.socket());
    EXPECT_FALSE(eventful.say_hello({waiting->fd.get(), pager}, /*returns=*/true));
    daemon.expect_refused("features that no daemon has asked for");
    // That of a process that has ended.
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    const base::UniqueFd here(ends[0]), there(ends[1]);
    ASSERT_EQ(as_user(0,
                      [&] {
                          auto own = sys::create_userfaultfd();
                          const std::array<std::uint8_t, 1> byte{0};
                          return own && sys::send_message(there.get(), byte,
                                                          std::array{own->fd.get()})
                                     ? 0
                                     : 1;
                      }),
              0);
    auto orphan = sys::receive_message(here.get(), 16);
    ASSERT_TRUE(orphan && orphan->descriptors.size() == 1);
    RawClient client(daemon.socket());
    if (client.say_hello({orphan->descriptors[0].get(), pager})) {
        const auto opened = client.ask(wire::OpenFile{"/polite", base::Access::ReadWrite});
        ASSERT_TRUE(opened && opened->error == 0);
        const auto mapped = client.ask(
            wire::Map{opened->handle, 0, 1u << 20, 0x100000000, base::Access::ReadWrite, false});
        EXPECT_TRUE(mapped && mapped->error == 0);
    }
    daemon.pool().pull({"b"});
    daemon.pool().wait_for_phase("b", ::geteuid() == 0 ? "safe" : "unproven");
    daemon.expect_polite_goes_on();
}

// Stopped with places on their way to it: it holds up neither the pull nor anybody else, and the
// light comes when it has gone.
TEST(Hostile, AClientThatIsStoppedInTheMiddleHoldsUpNobody) {
    NEEDS_PROOF();
    Besieged daemon;
    {
        Villain villain(0, [&] {
            static RawClient client(daemon.socket());
            if (!client.say_hello()) return 1;
            const auto file = client.ask(wire::OpenFile{"/polite", base::Access::ReadWrite});
            if (!file || file->error != 0) return 2;
            const auto mapped = client.ask(
                wire::Map{file->handle, 0, 4u << 20, 0x100000000, base::Access::ReadWrite, false});
            if (!mapped || mapped->error != 0) return 3;
            return client.send_to_pager(wire::Fetch{0}) ? 0 : 4;
        });
        ASSERT_EQ(villain.result(), 0);
        ASSERT_EQ(::kill(villain.pid(), SIGSTOP), 0);
        int status = 0;
        ASSERT_EQ(::waitpid(villain.pid(), &status, WUNTRACED), villain.pid());
        daemon.pool().pull({"b"});
        daemon.expect_polite_goes_on();
        daemon.pool().wait_for_phase("b", "unproven");
        daemon.expect_polite_goes_on();
    }
    daemon.pool().wait_for_phase("b", "safe");
    daemon.expect_polite_goes_on();
    daemon.expect_nothing_kept();
}

}  // namespace
}  // namespace refault::tests
