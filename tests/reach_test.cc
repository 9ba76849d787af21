// No client reaches bytes of a file that it may not open: by descriptors that it keeps, by segments
// that files share, by pages that are freed and used again, by more rights on what it was handed.
// Needs root, to become other users.
#include <fcntl.h>
#include <refault/refault.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

#include "sys/socket.h"
#include "tests/hostile.h"

namespace refault::tests {
namespace {

constexpr std::uint64_t kBytes = 64 * 1024;

// Every descriptor that comes with the places of a file, kept for good. Empty when it is refused.
std::vector<base::UniqueFd> keep_descriptors(RawClient& client, const std::string& path,
                                             base::Access access, std::uint64_t length) {
    std::vector<base::UniqueFd> kept;
    const auto file = client.ask(wire::OpenFile{path, access});
    if (!file || file->error != 0) return kept;
    void* const reserved =
        ::mmap(nullptr, 4 * length + (8u << 20), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const auto mapped = client.ask(wire::Map{
        file->handle, 0, length, reinterpret_cast<std::uintptr_t>(reserved), access, false});
    if (!mapped || mapped->error != 0) return kept;
    for (std::uint64_t placed = 0, parts = 1; parts > 0;) {
        if (!client.send_to_pager(wire::Fetch{placed})) return kept;
        auto message = sys::receive_message(client.pager(), wire::kMessageBytesMax);
        if (!message) return kept;
        auto decoded = wire::decode_pager_message(message->bytes);
        if (!decoded) return kept;
        if (const auto* places = std::get_if<wire::Places>(&*decoded)) {
            parts = places->places.size();
            placed = places->sequence;
            for (auto& fd : message->descriptors) kept.push_back(std::move(fd));
        }
    }
    return kept;
}

// How many bytes of this value the file behind the descriptor has, as a whole.
std::uint64_t count_bytes(int fd, char value) {
    std::uint64_t count = 0;
    std::vector<char> buffer(1u << 20);
    for (off_t at = 0;;) {
        const ssize_t got = ::pread(fd, buffer.data(), buffer.size(), at);
        if (got <= 0) return count;
        count +=
            static_cast<std::uint64_t>(std::count(buffer.begin(), buffer.begin() + got, value));
        at += got;
    }
}

class Reach : public ::testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become other users";
        pool_.emplace(std::vector<std::string>{"a=ram:64M"});
        std::filesystem::permissions(pool_->daemon().run_dir(), std::filesystem::perms(0755));
        socket_ = pool_->daemon().session_socket();
    }
    void TearDown() override {
        if (pool_) pool_->expect_sound();
    }

    int create(const char* path, mode_t mode, char value, std::uint64_t size) {
        return create_filled(socket_, path, mode, value, size);
    }
    int unlink(const char* path) {
        rf_session* session = nullptr;
        if (rf_connect(socket_.c_str(), &session, nullptr, 0) != 0) return 20;
        const int removed = rf_unlink(session, path);
        rf_disconnect(session);
        return -removed;
    }

    std::optional<Pool> pool_;
    std::string socket_;
};

// Small files of one user share segments; the other user's descriptors must show none of that
// user's other files, be they there before, made later, or where the first one was.
TEST_F(Reach, KeptDescriptorsShowNothingButTheFile) {
    ASSERT_EQ(as_user(kAlice, [&] { return create("/before", 0600, 'S', kBytes); }), 0);
    ASSERT_EQ(as_user(kAlice, [&] { return create("/public", 0644, 'P', kBytes); }), 0);
    int ready[2], release[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(release, O_CLOEXEC), 0);
    const pid_t bob = ::fork();
    if (bob == 0) {
        if (::setgid(kBob) != 0 || ::setuid(kBob) != 0) ::_exit(120);
        std::vector<base::UniqueFd> kept;
        {
            RawClient client(socket_);
            if (!client.say_hello()) ::_exit(1);
            kept = keep_descriptors(client, "/public", base::Access::Read, kBytes);
            if (kept.empty()) ::_exit(2);
            std::uint64_t own = 0;
            for (const auto& fd : kept) {
                own += count_bytes(fd.get(), 'P');
                if (count_bytes(fd.get(), 'S') != 0) ::_exit(3);
            }
            if (own != kBytes) ::_exit(4);
        }  // hung up: whatever was opened is closed, but the descriptors
        char byte = 0;
        (void)!::write(ready[1], "r", 1);
        (void)!::read(release[0], &byte, 1);
        for (const auto& fd : kept)
            if (count_bytes(fd.get(), 'S') != 0) ::_exit(5);
        ::_exit(0);
    }
    // So that its end is seen here, whatever it did.
    ::close(ready[1]);
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    EXPECT_EQ(as_user(kAlice,
                      [&] {
                          if (int bad = create("/beside", 0600, 'S', kBytes); bad != 0) return bad;
                          if (int bad = unlink("/public"); bad != 0) return bad;
                          // All that the pool has: also where the file was.
                          return create("/after", 0600, 'S', 40u << 20);
                      }),
              0);
    (void)!::write(release[1], "g", 1);
    int status = 0;
    ::waitpid(bob, &status, 0);
    EXPECT_TRUE(WIFEXITED(status)) << status;
    EXPECT_EQ(WEXITSTATUS(status), 0);
    for (const int fd : {ready[0], release[0], release[1]}) ::close(fd);
}

// Removed, cut off, punched: what another user or the same one gets of it is zeros.
TEST_F(Reach, FreedPagesAreZeroBeforeTheyAreUsedAgain) {
    constexpr std::uint64_t kMost = 40u << 20;
    ASSERT_EQ(as_user(kAlice, [&] { return create("/large", 0600, 'S', kMost); }), 0);
    ASSERT_EQ(as_user(kAlice, [&] { return unlink("/large"); }), 0);
    // create() finds zeros, or says 14.
    EXPECT_EQ(as_user(kBob, [&] { return create("/reuse", 0600, 'B', kMost); }), 0);
    EXPECT_EQ(as_user(kBob,
                      [&] {
                          rf_session* session = nullptr;
                          rf_file* file = nullptr;
                          rf_mapping* mapping = nullptr;
                          if (rf_connect(socket_.c_str(), &session, nullptr, 0) != 0) return 1;
                          if (rf_open(session, "/reuse", RF_READ | RF_WRITE, &file) != 0) return 2;
                          if (rf_resize(file, 4096) != 0) return 3;
                          if (rf_resize(file, kMost) != 0) return 4;
                          if (rf_map(file, 0, kMost, RF_READ, &mapping) != 0) return 5;
                          auto* bytes = static_cast<volatile char*>(rf_address(mapping));
                          if (bytes[0] != 'B') return 6;
                          for (std::uint64_t at = 4096; at < kMost; ++at)
                              if (bytes[at] != 0) return 7;
                          return 0;
                      }),
              0);
}

// A writer keeps descriptors, the file goes, and what he writes then reaches nobody.
TEST_F(Reach, AKeptWritableDescriptorReachesNoFileThatComesAfter) {
    ASSERT_EQ(as_user(kAlice, [&] { return create("/theirs", 0666, 'A', kBytes); }), 0);
    int ready[2], release[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(release, O_CLOEXEC), 0);
    const pid_t bob = ::fork();
    if (bob == 0) {
        if (::setgid(kBob) != 0 || ::setuid(kBob) != 0) ::_exit(120);
        RawClient client(socket_);
        if (!client.say_hello()) ::_exit(1);
        auto kept = keep_descriptors(client, "/theirs", base::Access::ReadWrite, kBytes);
        if (kept.empty()) ::_exit(2);
        char byte = 0;
        (void)!::write(ready[1], "r", 1);
        (void)!::read(release[0], &byte, 1);
        const std::string mark(kBytes, 'X');
        for (const auto& fd : kept)
            for (off_t at = 0; at < (2 << 20); at += static_cast<off_t>(kBytes))
                (void)!::pwrite(fd.get(), mark.data(), mark.size(), at);
        (void)!::write(ready[1], "w", 1);
        (void)!::read(release[0], &byte, 1);
        ::_exit(0);
    }
    // So that its end is seen here, whatever it did.
    ::close(ready[1]);
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    ASSERT_EQ(as_user(kAlice,
                      [&] {
                          if (int bad = create("/private", 0600, 'S', kBytes); bad != 0) return bad;
                          return unlink("/theirs");
                      }),
              0);
    (void)!::write(release[1], "g", 1);
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    // Zeros again, although he has written wherever he could.
    EXPECT_EQ(as_user(kAlice, [&] { return create("/later", 0600, 'L', 20u << 20); }), 0);
    auto bytes = pool_->control().get_bytes("/v1/files/data?path=/private");
    ASSERT_TRUE(bytes);
    EXPECT_EQ(*bytes, std::string(kBytes, 'S'));
    (void)!::write(release[1], "g", 1);
    int status = 0;
    ::waitpid(bob, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    for (const int fd : {ready[0], release[0], release[1]}) ::close(fd);
}

TEST_F(Reach, AReadOnlyDescriptorBecomesNoWritableOne) {
    ASSERT_EQ(as_user(kAlice, [&] { return create("/readable", 0644, 'R', kBytes); }), 0);
    EXPECT_EQ(
        as_user(
            kBob,
            [&] {
                RawClient client(socket_);
                if (!client.say_hello()) return 1;
                const auto kept = keep_descriptors(client, "/readable", base::Access::Read, kBytes);
                if (kept.empty()) return 2;
                for (const auto& fd : kept) {
                    const auto name = "/proc/self/fd/" + std::to_string(fd.get());
                    for (const int flags : {O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_RDONLY})
                        if (::open(name.c_str(), flags) >= 0) return 3;
                    if (::truncate(name.c_str(), 0) == 0) return 4;
                    if (::ftruncate(fd.get(), 0) == 0) return 5;
                    if (::fchmod(fd.get(), 0666) == 0 || ::fchown(fd.get(), kBob, kBob) == 0)
                        return 6;
                    if (::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                                    4096) == 0)
                        return 7;
                    if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE) == 0) return 8;
                    if (::pwrite(fd.get(), "X", 1, 0) >= 0) return 9;
                    if (::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0) !=
                        MAP_FAILED)
                        return 11;
                    void* const seen = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd.get(), 0);
                    if (seen == MAP_FAILED) return 12;
                    if (::mprotect(seen, 4096, PROT_READ | PROT_WRITE) == 0) return 13;
                    if (::linkat(AT_FDCWD, name.c_str(), AT_FDCWD, "/dev/shm/refault-stolen",
                                 AT_SYMLINK_FOLLOW) == 0)
                        return 14;
                }
                return 0;
            }),
        0);
    auto bytes = pool_->control().get_bytes("/v1/files/data?path=/readable");
    ASSERT_TRUE(bytes);
    EXPECT_EQ(*bytes, std::string(kBytes, 'R'));
}

// Who may not open the file gets no descriptor; who may read gets none for writing.
TEST_F(Reach, RightsAreAskedForWhenTheFileIsOpened) {
    ASSERT_EQ(as_user(kAlice, [&] { return create("/private", 0600, 'S', kBytes); }), 0);
    ASSERT_EQ(as_user(kAlice, [&] { return create("/readable", 0644, 'R', kBytes); }), 0);
    EXPECT_EQ(
        as_user(kBob,
                [&] {
                    RawClient client(socket_);
                    if (!client.say_hello()) return 1;
                    using base::Access;
                    if (!keep_descriptors(client, "/private", Access::Read, kBytes).empty())
                        return 2;
                    if (!keep_descriptors(client, "/readable", Access::ReadWrite, kBytes).empty())
                        return 3;
                    // Open for reading, mapped for writing.
                    const auto file = client.ask(wire::OpenFile{"/readable", Access::Read});
                    if (!file || file->error != 0) return 4;
                    const auto mapped = client.ask(
                        wire::Map{file->handle, 0, kBytes, 0x100000000, Access::ReadWrite, false});
                    return mapped && mapped->error == EACCES ? 0 : 5;
                }),
        0);
}

}  // namespace
}  // namespace refault::tests
