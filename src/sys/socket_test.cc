// Message sockets: boundaries, descriptors, ends.
#include "sys/socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>

namespace refault::sys {
namespace {

using Bytes = std::vector<std::uint8_t>;
using base::Code;

class SocketTest : public testing::Test {
  protected:
    void SetUp() override {
        std::string path = testing::TempDir() + "refault-socket-XXXXXX";
        ASSERT_NE(::mkdtemp(path.data()), nullptr);
        directory_ = path;
        auto ends = seqpacket_pair();
        ASSERT_TRUE(ends) << ends.error().message();
        left_ = std::move(ends->first);
        right_ = std::move(ends->second);
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }

    std::string path() const { return directory_ + "/socket"; }

    std::string directory_;
    UniqueFd left_, right_;
};

bool is_same_file(int first, int second) {
    struct stat a, b;
    return ::fstat(first, &a) == 0 && ::fstat(second, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

std::size_t open_descriptors() {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
        count += entry.path().empty() ? 0 : 1;
    return count;
}

TEST_F(SocketTest, KeepsMessageBoundaries) {
    ASSERT_TRUE(send_message(left_.get(), Bytes{1, 2, 3}));
    ASSERT_TRUE(send_message(left_.get(), Bytes{4}));
    EXPECT_EQ(receive_message(right_.get(), 100)->bytes, (Bytes{1, 2, 3}));
    EXPECT_EQ(receive_message(right_.get(), 100)->bytes, Bytes{4});
}

// Whoever has the same open socket can make it a blocking one at any time.
TEST_F(SocketTest, ACallThatMayNotWaitDoesNotWhateverTheSocketsFlags) {
    ASSERT_EQ(::fcntl(right_.get(), F_GETFL) & O_NONBLOCK, 0);
    const auto received = receive_message(right_.get(), 100, /*may_wait=*/false);
    ASSERT_FALSE(received);
    EXPECT_EQ(received.error().code(), Code::Busy);
}

TEST_F(SocketTest, OnlyAConnectedLocalOneWithMessageBoundariesIsASeqpacket) {
    EXPECT_TRUE(is_seqpacket(left_.get()));
    for (const auto& [domain, type] :
         {std::pair(AF_INET, SOCK_DGRAM), {AF_UNIX, SOCK_STREAM}, {AF_UNIX, SOCK_SEQPACKET}}) {
        const UniqueFd other(::socket(domain, type | SOCK_CLOEXEC, 0));
        EXPECT_FALSE(is_seqpacket(other.get())) << domain << " " << type;
    }
    const UniqueFd file(::open("/dev/null", O_RDWR | O_CLOEXEC));
    EXPECT_FALSE(is_seqpacket(file.get()));
}

TEST_F(SocketTest, CarriesAsManyDescriptorsAsTheKernelAllows) {
    UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    const std::vector<int> sent(kDescriptorsMax, file.get());
    ASSERT_TRUE(send_message(left_.get(), Bytes{1}, sent));
    auto received = receive_message(right_.get(), 100);
    ASSERT_TRUE(received) << received.error().message();
    ASSERT_EQ(received->descriptors.size(), kDescriptorsMax);
    for (const auto& fd : received->descriptors) {
        EXPECT_TRUE(is_same_file(fd.get(), file.get()));
        EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
    }
}

TEST_F(SocketTest, ReceiveIntoClosesWhatTheBufferHeld) {
    UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    std::array<std::uint8_t, 16> bytes;
    std::array<UniqueFd, kDescriptorsMax> descriptors;
    const auto before = open_descriptors();
    for (const std::size_t count : {3u, 2u, 0u}) {
        const std::vector<int> sent(count, file.get());
        ASSERT_TRUE(send_message(left_.get(), Bytes{1, 2}, sent));
        auto sizes = receive_into(right_.get(), bytes, descriptors);
        ASSERT_TRUE(sizes) << sizes.error().message();
        EXPECT_EQ(sizes->bytes, 2u);
        EXPECT_EQ(sizes->descriptors, count);
        EXPECT_EQ(open_descriptors(), before + count);
    }
}

TEST_F(SocketTest, TooLongAMessageIsCorruptAndLeaksNoDescriptor) {
    UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    const std::array sent{file.get(), file.get()};
    const auto before = open_descriptors();
    ASSERT_TRUE(send_message(left_.get(), Bytes(101), sent));
    auto received = receive_message(right_.get(), 100);
    ASSERT_FALSE(received);
    EXPECT_EQ(received.error().code(), Code::Corrupt);
    EXPECT_EQ(open_descriptors(), before);
}

TEST_F(SocketTest, HangUpIsSeenOnBothSides) {
    EXPECT_FALSE(has_hung_up(left_.get()));
    right_.reset();
    EXPECT_TRUE(has_hung_up(left_.get()));
    EXPECT_EQ(receive_message(left_.get(), 100).error().code(), Code::Gone);
    EXPECT_EQ(send_message(left_.get(), Bytes{1}).error().code(), Code::Gone);  // and no SIGPIPE
}

TEST_F(SocketTest, AFullQueueIsBusyForWhoMayNotWait) {
    Status sent;
    for (int i = 0; i < 100000 && sent; ++i)
        sent = send_message(left_.get(), Bytes(1000), {}, false);
    ASSERT_FALSE(sent);
    EXPECT_EQ(sent.error().code(), Code::Busy);
}

TEST_F(SocketTest, ListenerTakesOverADeadSocketButNotALivingOne) {
    {
        auto first = listen_seqpacket(path(), 0600);
        ASSERT_TRUE(first) << first.error().message();
        EXPECT_EQ(listen_seqpacket(path(), 0600).error().code(), Code::Busy);
    }
    EXPECT_EQ(connect_seqpacket(path()).error().sys_errno(), ECONNREFUSED);
    auto second = listen_seqpacket(path(), 0660);
    ASSERT_TRUE(second) << second.error().message();
    struct stat status;
    ASSERT_EQ(::stat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777u, 0660u);
}

TEST_F(SocketTest, ConnectedPeerIsKnownByItsCredentials) {
    auto listener = listen_seqpacket(path(), 0600);
    ASSERT_TRUE(listener);
    auto client = connect_seqpacket(path());
    ASSERT_TRUE(client);
    auto accepted = accept_connection(listener->get());
    ASSERT_TRUE(accepted);
    auto cred = peer_cred(accepted->get());
    ASSERT_TRUE(cred) << cred.error().message();
    EXPECT_EQ(cred->pid, ::getpid());
    EXPECT_EQ(cred->uid, ::geteuid());
    EXPECT_EQ(cred->gid, ::getegid());
}

TEST_F(SocketTest, PathThatDoesNotFitIsInvalid) {
    EXPECT_EQ(connect_seqpacket(std::string(108, 'x')).error().code(), Code::Invalid);
    EXPECT_EQ(connect_seqpacket("").error().code(), Code::Invalid);
    EXPECT_EQ(connect_seqpacket(path()).error().sys_errno(), ENOENT);
}

TEST(Socket, DescriptorsAreSeenWithoutTakingThemIn) {
    auto pair = seqpacket_pair();
    ASSERT_TRUE(pair);
    const int from = pair->first.get(), to = pair->second.get();
    EXPECT_EQ(carries_descriptors(to).error().code(), base::Code::Busy) << "nothing is there";
    const std::array<std::uint8_t, 3> bytes{1, 2, 3};
    ASSERT_TRUE(send_message(from, bytes));
    ASSERT_TRUE(send_message(from, bytes, std::array{from}));
    EXPECT_GT(unread_bytes(from), 0u);
    auto plain = carries_descriptors(to);
    ASSERT_TRUE(plain);
    EXPECT_FALSE(*plain);
    EXPECT_EQ(receive_message(to, 16)->bytes.size(), 3u) << "it is still there as a whole";
    auto carrying = carries_descriptors(to);
    ASSERT_TRUE(carrying);
    EXPECT_TRUE(*carrying);
    EXPECT_EQ(receive_message(to, 16)->descriptors.size(), 1u);
    EXPECT_EQ(unread_bytes(from), 0u);
    pair->first.reset();
    EXPECT_EQ(carries_descriptors(to).error().code(), base::Code::Gone);
}

}  // namespace
}  // namespace refault::sys
