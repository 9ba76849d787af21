// The session server with real sockets and random messages: valid ones, changed ones, plain noise.
// The decoders have a fuzzer of their own; here it is what acts upon a message that decodes.
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <memory>
#include <random>

#include "sys/socket.h"
#include "tests/hostile.h"

namespace refault::tests {
namespace {

constexpr int kMessages = 4000;
constexpr std::uint64_t kBytes = 1u << 20;

class Babbler {
  public:
    Babbler(const std::string& socket, std::uint64_t seed) : socket_(socket), random_(seed) {
        reserved_ = ::mmap(nullptr, 16 * kBytes, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    ~Babbler() { ::munmap(reserved_, 16 * kBytes); }

    // One message on the session channel or the pager's; a new connection when the last has ended.
    void say_something() {
        if (!client_ || ::poll(&hung_up_, 1, 0) > 0) {
            client_ = std::make_unique<RawClient>(socket_);
            ++connections_;
            if (!client_->is_connected() || !client_->say_hello(pick(4) == 0)) {
                client_.reset();
                return;
            }
            hung_up_ = {client_->channel(), POLLRDHUP, 0};
            opened_.reset();
        }
        if (pick(4) == 0) return say_to_pager();
        auto bytes = wire::encode(request());
        const bool is_changed = pick(3) == 0;
        if (is_changed) change(bytes);
        if (!client_->send(bytes)) return client_.reset();
        auto answer = sys::receive_message(client_->channel(), wire::kMessageBytesMax);
        if (!answer) return client_.reset();
        const auto reply = wire::decode_reply(answer->bytes);
        ASSERT_TRUE(reply) << "the daemon's own messages are right";
        if (reply->handle != 0) opened_ = *reply;
        ++answers_;
    }
    int connections() const { return connections_; }
    int answers() const { return answers_; }

  private:
    std::uint64_t pick(std::uint64_t below) { return random_() % below; }
    std::uint64_t number() {
        switch (pick(6)) {
            case 0:
                return random_();
            case 1:
                return ~std::uint64_t{0} - pick(3) * 4096;
            case 2:
                return reinterpret_cast<std::uintptr_t>(reserved_) + pick(16) * kBytes;
            default:
                return pick(64) * 4096;
        }
    }
    std::string path() {
        const char* const names[] = {"/r0", "/r1", "/r2", "/d",       "/d/x",
                                     "/",   "",    "//",  "/d/../r0", "/none/none"};
        if (pick(20) == 0) return std::string(pick(5000), 'n');
        return names[pick(std::size(names))];
    }
    base::Access access() { return pick(2) == 0 ? base::Access::Read : base::Access::ReadWrite; }
    std::uint32_t handle() {
        return opened_ && pick(4) != 0 ? opened_->handle : static_cast<std::uint32_t>(pick(5));
    }
    base::MappingId mapping() { return base::MappingId(pick(3) == 0 ? random_() : pick(2000)); }

    wire::Request request() {
        const auto mode = static_cast<std::uint32_t>(random_());
        switch (pick(18)) {
            case 0:
                return wire::CreateFile{path(), mode, pick(2) == 0};
            case 1:
                return wire::OpenFile{path(), access()};
            case 2:
                return wire::CloseFile{handle()};
            case 3:
                return wire::Resize{handle(), number()};
            case 4:
                return wire::StatHandle{handle()};
            case 5:
                return wire::StatPath{path()};
            case 6:
            case 7:
                return wire::Map{handle(), number(), number(), number(), access(), pick(2) == 0};
            case 8:
                return wire::Unmap{mapping()};
            case 9:
                return wire::List{path(), path()};
            case 10:
                return wire::Unlink{path()};
            case 11:
                return wire::MakeDirectory{path(), mode};
            case 12:
                return wire::RemoveDirectory{path()};
            case 13:
                return wire::Rename{path(), path()};
            case 14:
                return wire::Accept{mapping(), number(), number()};
            case 15:
                return wire::Punch{handle(), number(), number()};
            case 16:
                return wire::Reopen{opened_ ? opened_->ticket : path().substr(0, 64), handle()};
            default:
                break;
        }
        wire::Remap remap;
        remap.ticket = opened_ ? opened_->ticket : std::string(64, 't');
        remap.offset = number();
        remap.length = number();
        remap.address = number();
        remap.access = access();
        remap.replicas = static_cast<std::uint8_t>(pick(6));
        for (auto i = pick(8); i > 0; --i) remap.held.push_back({number(), number()});
        return remap;
    }
    void say_to_pager() {
        wire::PagerMessage message = wire::Fetch{pick(100)};
        if (pick(2) == 0)
            message = wire::Fault{static_cast<std::uint32_t>(random_()), number(), pick(2) == 0,
                                  static_cast<std::uint8_t>(pick(64))};
        auto bytes = wire::encode(message);
        if (pick(8) == 0) change(bytes);
        (void)sys::send_message(client_->pager(), bytes, {}, /*may_wait=*/false);
        // What it is told: read now and then, or not.
        if (pick(2) != 0) return;
        while (sys::receive_message(client_->pager(), wire::kMessageBytesMax, /*may_wait=*/false)) {
        }
    }
    void change(std::vector<std::uint8_t>& bytes) {
        switch (pick(4)) {
            case 0:
                bytes.resize(1 + pick(bytes.size()));
                return;
            case 1:
                bytes.resize(bytes.size() + 1 + pick(100));
                return;
            case 2:
                for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random_());
                return;
            default:
                for (auto i = 1 + pick(4); i > 0; --i)
                    bytes[pick(bytes.size())] ^= static_cast<std::uint8_t>(1u << pick(8));
        }
    }

    const std::string socket_;
    std::mt19937_64 random_;
    void* reserved_ = nullptr;
    std::unique_ptr<RawClient> client_;
    pollfd hung_up_{-1, POLLRDHUP, 0};
    std::optional<wire::Reply> opened_;
    int connections_ = 0;
    int answers_ = 0;
};

TEST(HostileRandom, MessagesNeitherEndTheDaemonNorHoldUpOthers) {
    const auto seed = test_seed();
    Besieged daemon;
    {
        Babbler babbler(daemon.socket(), seed);
        for (int i = 0; i < kMessages && !::testing::Test::HasFatalFailure(); ++i) {
            babbler.say_something();
            if (i % 1000 == 0) daemon.expect_polite_goes_on();
        }
        // The test is about both: what is refused, and what is done.
        EXPECT_GT(babbler.connections(), kMessages / 50);
        EXPECT_GT(babbler.answers(), kMessages / 4);
    }
    EXPECT_GT(daemon.refused("session", "bad-message"), 0u);
    daemon.expect_polite_goes_on();
    daemon.expect_nothing_kept();
}

}  // namespace
}  // namespace refault::tests
