// Who may see what: permissions, the owner rule of segments, read-only descriptors. Needs root, to
// become other users.
#include <fcntl.h>
#include <refault/refault.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "tests/hostile.h"

namespace refault::tests {
namespace {

class Isolation : public ::testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become other users";
        pool_.emplace(std::vector<std::string>{"a=ram:64M", "b=ram:64M"});
        // The run directory is 0700; other users have to come through to the socket.
        std::filesystem::permissions(pool_->daemon().run_dir(), std::filesystem::perms(0755));
        socket_ = pool_->daemon().session_socket();
    }

    int create(const char* path, mode_t mode, unsigned char value, std::uint64_t size) {
        return create_filled(socket_, path, mode, static_cast<char>(value), size);
    }

    std::optional<Pool> pool_;
    std::string socket_;
};

TEST_F(Isolation, PermissionsAreCheckedAgainstThePeer) {
    ASSERT_EQ(as_user(kAlice, [&] { return create("/private", 0600, 'A', 8192); }), 0);
    ASSERT_EQ(as_user(kAlice, [&] { return create("/readable", 0644, 'R', 8192); }), 0);
    const auto open_as = [&](uid_t uid, const char* path, int flags) {
        return as_user(uid, [&] {
            rf_session* session = nullptr;
            rf_file* file = nullptr;
            if (rf_connect(socket_.c_str(), &session, nullptr, 0) != 0) return 10;
            return -rf_open(session, path, flags, &file);
        });
    };
    EXPECT_EQ(open_as(kBob, "/private", RF_READ), EACCES);
    EXPECT_EQ(open_as(kBob, "/readable", RF_READ), 0);
    EXPECT_EQ(open_as(kBob, "/readable", RF_READ | RF_WRITE), EACCES);
    EXPECT_EQ(open_as(kAlice, "/readable", RF_READ | RF_WRITE), 0);
    EXPECT_EQ(open_as(0, "/private", RF_READ), 0);
}

// A session is a thread and descriptors of the daemon: one user must not take them all.
TEST_F(Isolation, AUserCannotTakeAllSessions) {
    constexpr int kTries = 260, kAllowed = 256;
    EXPECT_EQ(as_user(kAlice,
                      [&] {
                          int accepted = 0;
                          rf_session* session = nullptr;
                          for (int i = 0; i < kTries; ++i)
                              if (rf_connect(socket_.c_str(), &session, nullptr, 0) == 0)
                                  ++accepted;
                          return accepted == kAllowed ? 0 : 1;
                      }),
              0);
    EXPECT_EQ(as_user(kBob, [&] { return create("/others-go-on", 0600, 'B', 8192); }), 0);
}

TEST_F(Isolation, AReaderCannotWriteByAnyWay) {
    ASSERT_EQ(as_user(kAlice, [&] { return create("/readable", 0644, 'R', 8192); }), 0);
    EXPECT_EQ(as_user(kBob,
                      [&] {
                          rf_session* session = nullptr;
                          rf_file* file = nullptr;
                          rf_mapping* mapping = nullptr;
                          if (rf_connect(socket_.c_str(), &session, nullptr, 0) != 0) return 10;
                          if (rf_open(session, "/readable", RF_READ, &file) != 0) return 11;
                          if (rf_map(file, 0, 8192, RF_READ | RF_WRITE, &mapping) != -EACCES)
                              return 12;
                          if (rf_map(file, 0, 8192, RF_READ, &mapping) != 0) return 13;
                          auto* bytes = static_cast<volatile char*>(rf_address(mapping));
                          if (bytes[0] != 'R' || bytes[8191] != 'R') return 14;
                          // Making it writable gives a private copy at most.
                          if (::mprotect(rf_address(mapping), 8192, PROT_READ | PROT_WRITE) == 0)
                              bytes[0] = 'X';
                          return 0;
                      }),
              0);
    auto bytes = pool_->control().get_bytes("/v1/files/data?path=/readable&offset=0&length=8192");
    ASSERT_TRUE(bytes);
    EXPECT_EQ(*bytes, std::string(8192, 'R'));
}

// Small files of one user share segments. When another user maps one of them, it must come in
// segments of its own: the descriptor must not show the neighbours.
TEST_F(Isolation, ASharedSegmentIsNeverShownToAnotherUser) {
    ASSERT_EQ(as_user(kAlice,
                      [&] {
                          if (int bad = create("/secret", 0600, 'S', 16384); bad != 0) return bad;
                          return create("/public", 0644, 'P', 16384);
                      }),
              0);
    EXPECT_EQ(as_user(kBob,
                      [&] {
                          rf_session* session = nullptr;
                          rf_file* file = nullptr;
                          rf_mapping* mapping = nullptr;
                          if (rf_connect(socket_.c_str(), &session, nullptr, 0) != 0) return 10;
                          if (rf_open(session, "/public", RF_READ, &file) != 0) return 11;
                          if (rf_map(file, 0, 16384, RF_READ, &mapping) != 0) return 13;
                          if (*static_cast<char*>(rf_address(mapping)) != 'P') return 14;
                          // map_files shows the whole segment to whoever can open it; a mapping of
                          // the rest of the segment is what a kept descriptor would give. The
                          // mapping can be grown over the neighbours by mremap.
                          void* grown =
                              ::mremap(rf_address(mapping), 16384, 1 << 20, MREMAP_MAYMOVE);
                          if (grown == MAP_FAILED) return 0;
                          for (std::size_t at = 0; at < (1u << 20); ++at)
                              if (static_cast<char*>(grown)[at] == 'S') return 15;
                          return 0;
                      }),
              0);
    pool_->expect_sound();
}

TEST_F(Isolation, GrowthAfterAForeignMappingStaysInItsOwnSegments) {
    ASSERT_EQ(as_user(kAlice, [&] { return create("/secret", 0600, 'S', 16384); }), 0);
    ASSERT_EQ(as_user(kAlice,
                      [&] {
                          rf_session* session = nullptr;
                          rf_file* file = nullptr;
                          if (rf_connect(socket_.c_str(), &session, nullptr, 0) != 0) return 10;
                          return -rf_create(session, "/log", 0644, RF_EXCLUSIVE, &file);
                      }),
              0);
    // Bob maps the empty file, root (who may) lets it grow, Bob sees the new bytes and nothing of
    // the secret.
    int to_bob[2], from_bob[2];
    ASSERT_EQ(::pipe2(to_bob, O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(from_bob, O_CLOEXEC), 0);
    const pid_t bob = ::fork();
    if (bob == 0) {
        char token = 0;
        rf_session* session = nullptr;
        rf_file* file = nullptr;
        rf_mapping* mapping = nullptr;
        if (::setgid(kBob) != 0 || ::setuid(kBob) != 0) ::_exit(120);
        if (rf_connect(socket_.c_str(), &session, nullptr, 0) != 0) ::_exit(10);
        if (rf_open(session, "/log", RF_READ, &file) != 0) ::_exit(11);
        if (rf_map(file, 0, 16384, RF_READ, &mapping) != 0) ::_exit(12);
        (void)!::write(from_bob[1], "m", 1);
        (void)!::read(to_bob[0], &token, 1);
        const char seen = *static_cast<volatile char*>(rf_address(mapping));
        ::_exit(seen == 'L' ? 0 : 13);
    }
    char token = 0;
    ASSERT_EQ(::read(from_bob[0], &token, 1), 1);
    auto put =
        pool_->control().put_bytes("/v1/files/data?path=/log&offset=0", std::string(16384, 'L'));
    EXPECT_TRUE(put) << put.error().message();
    ASSERT_EQ(::write(to_bob[1], "g", 1), 1);
    int status = 0;
    ::waitpid(bob, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    for (const int fd : {to_bob[0], to_bob[1], from_bob[0], from_bob[1]}) ::close(fd);
}

}  // namespace
}  // namespace refault::tests
