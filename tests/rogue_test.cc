// A client that keeps a descriptor and a mapping of its own reaches nothing after the pull, is
// named while it holds on, and the light waits for it.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <optional>

#include "sys/process.h"
#include "sys/socket.h"
#include "sys/userfaultfd.h"
#include "tests/support.h"
#include "wire/message.h"

namespace refault::tests {
namespace {

// refault-rogue with pipes to its stdin and from its stdout.
class Rogue {
  public:
    Rogue(Pool& pool, const std::string& path, std::uint64_t size_bytes) {
        int to[2], from[2];
        if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0)
            throw std::runtime_error("pipe");
        const std::string socket = pool.daemon().session_socket(),
                          size = std::to_string(size_bytes);
        const std::string program = cli::program_directory() + "/refault-rogue";
        pid_ = ::fork();
        if (pid_ == 0) {
            ::dup2(to[0], STDIN_FILENO);
            ::dup2(from[1], STDOUT_FILENO);
            ::execl(program.c_str(), program.c_str(), socket.c_str(), path.c_str(), size.c_str(),
                    nullptr);
            ::_exit(127);
        }
        ::close(to[0]);
        ::close(from[1]);
        commands_ = base::UniqueFd(to[1]);
        answers_ = ::fdopen(from[0], "r");
        greeting_ = answer();
    }
    ~Rogue() {
        commands_.reset();
        ::fclose(answers_);
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    std::string command(char letter) {
        EXPECT_EQ(::write(commands_.get(), &letter, 1), 1);
        return answer();
    }
    pid_t pid() const { return pid_; }
    const std::string& greeting() const { return greeting_; }

  private:
    std::string answer() {
        char line[256];
        return ::fgets(line, sizeof line, answers_) != nullptr ? line : "";
    }
    pid_t pid_ = -1;
    base::UniqueFd commands_;
    std::FILE* answers_ = nullptr;
    std::string greeting_;
};

// Page-table entries of the process that are present or swapped, in mappings of files below
// `directory`.
std::uint64_t entries_of(pid_t pid, const std::string& directory) {
    auto maps = sys::read_maps(pid);
    if (!maps) return 0;
    // The file takes reads of whole 8-byte entries alone, so no buffered stream.
    const base::UniqueFd pagemap(
        ::open(("/proc/" + std::to_string(pid) + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(pagemap);
    std::uint64_t present = 0;
    for (const auto& entry : *maps) {
        if (!entry.path.starts_with(directory)) continue;
        for (auto at = entry.addresses.begin(); at < entry.addresses.end(); at += 4096) {
            std::uint64_t word = 0;
            if (::pread(pagemap.get(), &word, sizeof word,
                        static_cast<off_t>(at / 4096 * sizeof word)) != sizeof word)
                ADD_FAILURE() << "pagemap cannot be read";
            if ((word >> 62) != 0) ++present;
        }
    }
    return present;
}

constexpr std::uint64_t kFileBytes = 8ull << 20;

TEST(Rogue, ReachesNothingAfterThePullAndKeepsTheLightAmber) {
    NEEDS_PROOF();
    Pool pool({"a=ram:64M", "b=ram:64M"});
    Writers writers(pool, 2, kFileBytes);
    Rogue rogue(pool, "/writer0", kFileBytes);
    ASSERT_TRUE(rogue.greeting().starts_with("holding ")) << rogue.greeting();
    const auto before = rogue.command('r');
    EXPECT_NE(before, "bytes 0 signals 0\n") << "it should see the records at first";

    const auto directory = pool.get("/v1/devices/b").value("directory", "");
    ASSERT_GT(entries_of(rogue.pid(), directory), 0u);
    pool.pull({"b"});
    const auto status = pool.wait_for_phase("b", "unproven");
    bool is_named = false;
    for (const auto& holder : status["proof"]["holders"])
        is_named = is_named || holder.value("pid", 0) == rogue.pid();
    EXPECT_TRUE(is_named) << status.dump();
    EXPECT_NE(pool.power("b"), "off");
    EXPECT_EQ(entries_of(rogue.pid(), directory), 0u) << "no page-table entry may be left";

    // The other device goes as well: now every byte that it once saw has moved away from under it.
    pool.post("/v1/devices", {{"spec", "c=ram:64M"}});
    pool.pull({"a"});
    pool.wait_for_phase("a", "unproven");
    EXPECT_EQ(rogue.command('r'), "bytes 0 signals 0\n");
    // What it writes now goes to pages that nobody has: the writers find every record as they wrote
    // it.
    (void)rogue.command('w');
    writers.let_run(300);

    EXPECT_EQ(rogue.command('x'), "dropped\n");
    pool.wait_for_phase("a", "safe");
    pool.wait_for_phase("b", "safe");
    EXPECT_EQ(pool.power("a"), "off");
    EXPECT_EQ(pool.power("b"), "off");
    writers.let_run(300);
    writers.finish();
    pool.expect_sound();
}

// A client may say what it likes: what the daemon can read is not bad.
TEST(Rogue, CannotFailMemoryBySayingThatItIsBad) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    Writers writers(pool, 2, kFileBytes);
    Rogue rogue(pool, "/writer0", kFileBytes);
    ASSERT_TRUE(rogue.greeting().starts_with("holding ")) << rogue.greeting();
    EXPECT_EQ(rogue.command('p'), "told 36\n");
    EXPECT_TRUE(pool.get("/v1/failures")["failures"].empty()) << pool.get("/v1/failures").dump();
    EXPECT_TRUE(pool.get("/v1/lost")["lost"].empty());
    EXPECT_EQ(pool.get("/v1/devices/a").value("state", ""), "in-service");
    EXPECT_EQ(pool.get("/v1/devices/b").value("state", ""), "in-service");
    writers.let_run(100);
    writers.finish();
    pool.expect_sound();
}

// What the daemon's threads wait on must be what it seems: another kind of descriptor could hold
// them up for good.
TEST(Rogue, DescriptorsOfAnotherKindAreRefused) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    auto uffd = sys::create_userfaultfd();
    auto pair = sys::seqpacket_pair();
    ASSERT_TRUE(uffd && pair);
    const base::UniqueFd udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const base::UniqueFd file(::open("/dev/null", O_RDWR | O_CLOEXEC));
    for (const auto& sent :
         {std::array{uffd->fd.get(), udp.get()}, std::array{file.get(), pair->second.get()}}) {
        auto channel = sys::connect_seqpacket(pool.daemon().session_socket());
        ASSERT_TRUE(channel);
        ASSERT_TRUE(sys::send_message(channel->get(), wire::encode(wire::Hello{true}), sent));
        auto message = sys::receive_message(channel->get(), wire::kMessageBytesMax);
        ASSERT_TRUE(message);
        auto reply = wire::decode_reply(message->bytes);
        ASSERT_TRUE(reply);
        EXPECT_NE(reply->error, 0);
    }
}

// Who says that he comes back gets what he has had open, and nothing else.
TEST(Rogue, AReturnOpensNothingNew) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    pool.post("/v1/files/create", {{"path", "/secret"}, {"mode", 0600}});
    const auto secret = pool.get("/v1/files/stat?path=/secret").value("inode", std::uint64_t{0});
    ASSERT_NE(secret, 0u);
    auto uffd = sys::create_userfaultfd();
    auto pair = sys::seqpacket_pair();
    ASSERT_TRUE(uffd && pair);
    auto channel = sys::connect_seqpacket(pool.daemon().session_socket());
    ASSERT_TRUE(channel);
    const auto ask = [&](const auto& message, std::span<const int> descriptors = {}) {
        wire::Reply none;
        none.error = -1;
        if (!sys::send_message(channel->get(), wire::encode(message), descriptors)) return none;
        auto answer = sys::receive_message(channel->get(), wire::kMessageBytesMax);
        auto reply =
            answer ? wire::decode_reply(answer->bytes) : base::Result<wire::Reply>(answer.error());
        return reply ? *reply : none;
    };
    const auto request = [&](wire::Request message) { return ask(message); };
    // A handshake that was not made is no harm.
    ASSERT_EQ(
        ask(wire::Hello{true, /*returns=*/true}, std::array{uffd->fd.get(), pair->second.get()})
            .error,
        0);
    const auto mine = request(wire::CreateFile{"/mine", 0600, true});
    ASSERT_EQ(mine.error, 0) << mine.message;
    ASSERT_EQ(request(wire::Resize{mine.handle, kFileBytes}).error, 0);
    EXPECT_EQ(request(wire::Reopen{mine.ticket, 77}).error, 0);
    EXPECT_EQ(request(wire::Reopen{mine.ticket, 77}).error, EBADF);
    EXPECT_EQ(request(wire::Reopen{mine.ticket, 0}).error, EBADF);
    auto forged = mine.ticket;
    forged[0] = static_cast<char>(secret);
    EXPECT_EQ(request(wire::Reopen{forged, 78}).error, EACCES);
    EXPECT_EQ(request(wire::Reopen{"", 78}).error, EACCES);
    EXPECT_EQ(request(wire::StatHandle{78}).error, EBADF);
    constexpr std::uint64_t kAddress = 1ull << 40;
    const auto remap = [&](const std::string& ticket, std::uint64_t address,
                           std::vector<wire::Remap::Part> held) {
        return request(wire::Remap{ticket, 0, 65536, address, base::Access::ReadWrite, 1, held})
            .error;
    };
    EXPECT_EQ(remap(forged, kAddress, {}), EACCES);
    EXPECT_EQ(remap(mine.ticket, kAddress + 1, {}), EINVAL);
    EXPECT_EQ(remap(mine.ticket, ~std::uint64_t{4095}, {}), EINVAL);
    EXPECT_EQ(remap(mine.ticket, kAddress, {{65536, 4096}}), EINVAL);
    EXPECT_EQ(remap(mine.ticket, kAddress, {{~std::uint64_t{4095}, 8192}}), EINVAL);
    EXPECT_EQ(remap(mine.ticket, kAddress, {{4096, 4096}}), 0);
    EXPECT_EQ(remap(mine.ticket, kAddress, {}), EINVAL) << "over another of its mappings";
    channel->reset();
    EXPECT_TRUE(eventually([&] { return pool.get("/v1/maps")["mappings"].empty(); }));
    pool.expect_sound();
}

TEST(Rogue, DescriptorsInFlightKeepTheLightAmber) {
    NEEDS_PROOF();
    Pool pool({"a=ram:64M", "b=ram:64M"});
    if (!pool.get("/v1/devices/b").value("is_private_mount", false))
        GTEST_SKIP() << "needs the right to mount a tmpfs";
    Writers writers(pool, 2, kFileBytes);
    const auto directory = pool.get("/v1/devices/b").value("directory", "");
    const auto lines = maps_lines_of(writers.pid(0), directory);
    ASSERT_FALSE(lines.empty());
    const auto path = lines[0].substr(lines[0].find('/'));
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    base::UniqueFd near(ends[0]), far(ends[1]);
    {
        base::UniqueFd segment(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        ASSERT_TRUE(segment) << path;
        const int fd = segment.get();
        const std::uint8_t byte = 0;
        ASSERT_TRUE(sys::send_message(near.get(), {&byte, 1}, {&fd, 1}));
    }
    pool.pull({"b"});
    const auto status = pool.wait_for_phase("b", "unproven");
    EXPECT_GT(status["proof"].value("hidden_inodes", 0), 0) << status.dump();
    EXPECT_NE(pool.power("b"), "off");
    near.reset();
    far.reset();
    pool.wait_for_phase("b", "safe");
    writers.finish();
}

}  // namespace
}  // namespace refault::tests
