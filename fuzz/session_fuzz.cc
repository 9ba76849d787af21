// The session server with real sockets: connections that say and send anything, in any pieces, with
// any descriptors, and close at any moment. Each message is answered or the channel is shut, a
// polite client beside them is served, and when they are gone the server has nothing of theirs.
//
// The server has its threads; the script waits for each answer, so the same input does the same.
// What waits for a client on purpose, and takes seconds, is left out: a file gets no new size while
// somebody maps it whose pager is silent (tests/hostile_random_test.cc does that to a daemon).
//
//   input   [step, connection, ...]...
#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <optional>
#include <thread>

#include "fuzz/pool.h"
#include "fuzz/script.h"
#include "session/server.h"
#include "sys/socket.h"
#include "sys/userfaultfd.h"
#include "wire/message.h"

namespace refault::fuzz {
namespace {

constexpr std::size_t kStepsMax = 24;
constexpr std::size_t kPeers = 4;
constexpr int kPatienceMs = 20'000;  // bounds a failing run

// One connection, by hand.
class Peer {
  public:
    explicit Peer(const std::string& socket) {
        auto connected = sys::connect_seqpacket(socket);
        CHECK(connected.ok());
        channel_ = std::move(*connected);
        auto pair = sys::seqpacket_pair();
        auto made = sys::create_userfaultfd();
        CHECK(pair.ok() && made.ok());
        pager_ = std::move(pair->first);
        pager_to_give_ = std::move(pair->second);
        userfaultfd_ = std::move(made->fd);
    }

    // Those that a client gives, and others: by number. Not its end of the session channel, which
    // the server would then keep open itself: such a session ends with its process.
    int descriptor(std::uint8_t which) const {
        const std::array all{userfaultfd_.get(), pager_to_give_.get(), pager_.get(), 0};
        return all[which % all.size()];
    }
    int pager() const { return pager_.get(); }
    bool send(Input bytes, std::span<const int> descriptors) {
        return sys::send_message(channel_.get(), bytes, descriptors, /*may_wait=*/false).ok();
    }
    // The answer; none when it is hung up on. One of the two comes.
    std::optional<wire::Reply> answer() {
        pollfd event{channel_.get(), POLLIN, 0};
        int ready = 0;
        // libFuzzer's alarm comes once a second or so.
        while ((ready = ::poll(&event, 1, kPatienceMs)) < 0) CHECK(errno == EINTR);
        CHECK(ready == 1);
        const auto got = sys::receive_message(channel_.get(), wire::kMessageBytesMax);
        if (!got) return std::nullopt;
        const auto reply = wire::decode_reply(got->bytes);
        CHECK(reply.ok());
        return *reply;
    }
    bool say_hello() {
        const std::array given{userfaultfd_.get(), pager_to_give_.get()};
        if (!send(wire::encode(wire::Hello{true, false}), given)) return false;
        const auto reply = answer();
        return reply && reply->error == 0;
    }
    void hear_pager() {
        while (sys::receive_message(pager_.get(), wire::kMessageBytesMax, /*may_wait=*/false)) {
        }
    }
    void close_pager() { pager_.reset(), pager_to_give_.reset(); }
    void close_userfaultfd() { userfaultfd_.reset(); }

  private:
    base::UniqueFd channel_, pager_, pager_to_give_, userfaultfd_;
};

class World {
  public:
    World() {
        ::signal(SIGPIPE, SIG_IGN);
        session::ServerOptions options;
        options.socket_path = socket();
        server_.emplace(pool_.store(), pool_.registry(), pool_.files(), faults_, events_, options);
        CHECK(server_->start().ok());
        polite_.emplace(socket());
        CHECK(polite_->say_hello());
        wait_until([&] { return pool_.registry().sessions().size() == 1; });
    }
    std::string socket() const { return pool_.path() / "socket"; }
    bool is_mapped() { return !pool_.registry().mappings().empty(); }

    void begin() { descriptors_ = descriptors(); }
    // Nobody but the polite client is connected any more.
    void check_that_nothing_is_left() {
        CHECK(polite_->send(wire::encode(wire::Request(wire::StatPath{"/"})), {}));
        const auto reply = polite_->answer();
        CHECK(reply && reply->error == 0 && reply->info.is_directory);
        // Their threads end by themselves, and close the channel last.
        wait_until([&] { return descriptors() <= descriptors_; });
        CHECK(pool_.registry().sessions().size() == 1 && pool_.registry().mappings().empty());
        pool_.empty();
    }

  private:
    class NoFaults final : public session::FaultDesk {
      public:
        void fault(const std::shared_ptr<session::Session>&, const wire::Fault&) override {}
        void writer_gone(base::InodeNo) override {}
    };
    class NoEvents final : public base::EventSink {
      public:
        void publish(base::Event) override {}
    };

    // What a session has; the files are the pool's, whose journal takes a new segment at times.
    static std::size_t descriptors() {
        std::size_t count = 0;
        for (const auto& one : std::filesystem::directory_iterator("/proc/self/fd")) {
            std::error_code closed;
            const auto what = std::filesystem::read_symlink(one.path(), closed).string();
            if (what.starts_with("socket:") || what.starts_with("anon_inode:")) ++count;
        }
        return count;
    }
    template <typename Condition>
    static void wait_until(const Condition& condition) {
        const auto deadline =
            std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
        while (!condition()) {
            CHECK(std::chrono::steady_clock::now() < deadline);
            std::this_thread::yield();
        }
    }

    ServedPool pool_;
    NoFaults faults_;
    NoEvents events_;
    std::optional<session::Server> server_;
    std::optional<Peer> polite_;
    std::size_t descriptors_ = 0;
};

World& world() {
    static World the_world;
    return the_world;
}

class Player {
  public:
    explicit Player(Input input) : script_(input) {}

    void play() {
        world().begin();
        for (std::size_t i = 0; i < kStepsMax && !script_.is_over(); ++i) step();
        for (auto& peer : peers_) peer.reset();
        world().check_that_nothing_is_left();
    }

  private:
    void step() {
        const auto what = script_.u8();
        auto& peer = peers_[script_.below(kPeers)];
        if (!peer) {
            peer.emplace(world().socket());
            // Some begin with what they say next.
            if (what % 8 != 7 && !peer->say_hello()) peer.reset();
            if (peer && what < 128) return;
        }
        if (!peer) return;
        switch (what % 8) {
            case 0:
                return close(peer);
            case 1:
                return say_to_pager(*peer);
            case 2:
                return reopen(peer);
            default:
                return say(peer);
        }
    }
    Bytes message() {
        const auto text = script_.bytes();
        return {text.begin(), text.end()};
    }
    std::vector<int> descriptors(const Peer& peer) {
        std::vector<int> chosen;
        for (auto left = script_.below(4); left > 0; --left) {
            const int one = peer.descriptor(script_.u8());
            if (one >= 0) chosen.push_back(one);
        }
        return chosen;
    }
    void say(std::optional<Peer>& peer) {
        const auto how = script_.u8();
        const auto bytes = message();
        if (bytes.empty()) return;
        // See above.
        const auto request = wire::decode_request(bytes);
        if (request && std::holds_alternative<wire::Resize>(*request) && world().is_mapped())
            return;
        const auto given = how < 224 ? std::vector<int>{} : descriptors(*peer);
        if (!peer->send(bytes, given)) return peer.reset();
        exchange(peer);
    }
    void exchange(std::optional<Peer>& peer) {
        const auto reply = peer->answer();
        if (!reply) return peer.reset();
        if (!reply->ticket.empty()) ticket_ = reply->ticket;
    }
    // By what the server has signed, of this connection or another.
    void reopen(std::optional<Peer>& peer) {
        wire::Reopen wanted{ticket_, script_.u8()};
        if (script_.flag() && !wanted.ticket.empty()) wanted.ticket.back() ^= 1;
        if (!peer->send(wire::encode(wire::Request(wanted)), {})) return peer.reset();
        exchange(peer);
    }
    // Its answers come on the pager's channel, when they come.
    void say_to_pager(Peer& peer) {
        const auto how = script_.u8();
        auto bytes = message();
        if (how < 64) bytes = wire::encode(wire::PagerMessage(wire::Fetch{script_.u8()}));
        const auto given = how < 224 ? std::vector<int>{} : descriptors(peer);
        if (peer.pager() >= 0 && !bytes.empty())
            (void)sys::send_message(peer.pager(), bytes, given, /*may_wait=*/false);
        if (how % 2 == 0) peer.hear_pager();
    }
    void close(std::optional<Peer>& peer) {
        switch (script_.below(3)) {
            case 0:
                return peer.reset();
            case 1:
                return peer->close_pager();
            default:
                return peer->close_userfaultfd();
        }
    }

    Script script_;
    std::array<std::optional<Peer>, kPeers> peers_;
    std::string ticket_;
};

void put(Bytes& script, std::uint8_t what, std::uint8_t how, const Bytes& bytes) {
    script.insert(script.end(), {what, 0, how, static_cast<std::uint8_t>(bytes.size())});
    script.insert(script.end(), bytes.begin(), bytes.end());
}

std::vector<Bytes> seeds() {
    using wire::Request;
    const std::vector<Request> requests{
        wire::CreateFile{"/f", 0600, false},
        wire::Resize{1, 131072},
        wire::Map{1, 0, 65536, 1u << 30, base::Access::ReadWrite, true},
        wire::StatPath{"/f"},
        wire::StatHandle{1},
        wire::Punch{1, 4096, 8192},
        wire::SetNotice{true},
        wire::Accept{base::MappingId(1), 0, 4096},
        wire::Unmap{base::MappingId(1)},
        wire::MakeDirectory{"/d", 0700},
        wire::Rename{"/f", "/d/f"},
        wire::List{"/d", ""},
        wire::OpenFile{"/d/f", base::Access::Read},
        wire::Unlink{"/d/f"},
        wire::RemoveDirectory{"/d"},
        wire::CloseFile{1}};
    Bytes life{3, 0};  // a connection that says hello
    for (const auto& request : requests) put(life, 3, 0, wire::encode(request));
    Bytes paging{3, 0};
    for (std::size_t i = 0; i < 3; ++i) put(paging, 3, 0, wire::encode(requests[i]));
    for (int i = 0; i < 2; ++i) paging.insert(paging.end(), {1, 0, 0, 0, 0});
    paging.insert(paging.end(), {2, 0, 9, 0, 2, 0, 9, 1, 0, 0, 0});
    Bytes strange;
    put(strange, 255, 255, wire::encode(wire::Hello{true, true}));
    strange.insert(strange.end(), {3, 1});
    put(strange, 3, 225, wire::encode(requests[0]));
    for (std::uint8_t how = 0; how < 3; ++how) strange.insert(strange.end(), {128, 2, how, 3, 2});
    return {life, paging, strange};
}

void run(Input input) {
    Player(input).play();
}

const Registration registered({"session", seeds, run, 100});

}  // namespace
}  // namespace refault::fuzz
