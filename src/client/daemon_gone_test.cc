// A daemon that dies or goes wrong: what is mapped keeps working, what is fenced stays shut, the
// rest is refused with a reason.
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <filesystem>

#include "client/test_session.h"

namespace refault::client::testing {
namespace {

class DaemonGoneTest : public SessionTest {
  protected:
    void SetUp() override {
        SessionTest::SetUp();
        ASSERT_EQ(rf_set_patience(session_, 0), 0);
    }
    void expect_ended(const char* reason) {
        rf_stat stat;
        wait_until("the session to end", [&] { return rf_file_stat(file_, &stat) != 0; });
        EXPECT_EQ(rf_file_stat(file_, &stat), -EPIPE);
        EXPECT_NE(detail_of(session_).find(reason), std::string::npos) << detail_of(session_);
        rf_mapping* mapping = nullptr;
        EXPECT_EQ(rf_map(file_, 0, kFileBytes, RF_READ, &mapping), -EPIPE);
        EXPECT_NE(detail_of(session_).find(reason), std::string::npos) << detail_of(session_);
    }
};

TEST_F(DaemonGoneTest, MappingsKeepWorking) {
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    bytes_of(mapping)[0] = 1;
    daemon_->stop();
    expect_ended("the daemon is gone");
    bytes_of(mapping)[kFileBytes - 1] = 2;
    EXPECT_EQ(bytes_of(mapping)[0], 1);
    EXPECT_EQ(rf_persist(mapping, rf_address(mapping), kFileBytes), 0);
    const auto* const bytes = bytes_of(mapping);
    EXPECT_EQ(rf_unmap(mapping), 0);
    EXPECT_EQ(signal_of_read(bytes), SIGSEGV);
    EXPECT_EQ(rf_close(file_), -EPIPE);
}

TEST_F(DaemonGoneTest, WhoWaitsForAMappingIsTold) {
    daemon_->hold_places(true);
    int result = 0;
    std::thread mapper([&] {
        rf_mapping* mapping = nullptr;
        result = rf_map(file_, 0, kFileBytes, RF_READ | RF_WRITE, &mapping);
        EXPECT_EQ(mapping, nullptr);
    });
    daemon_->wait_for_mappings(1);
    daemon_->stop();
    mapper.join();
    EXPECT_EQ(result, -EPIPE);
}

// The session's own descriptor of its userfaultfd, found as anybody could find it.
int find_userfaultfd() {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code ignored;
        if (std::filesystem::read_symlink(entry.path(), ignored) == "anon_inode:[userfaultfd]")
            return std::stoi(entry.path().filename());
    }
    return -1;
}

// A daemon in a process of its own is killed while the file is fenced. A thread that touches it
// then must wait, and not see the zeroes of the hole: this test itself fills the page in, with
// something else.
TEST(DaemonKilled, FencesStayShut) {
    int gate[2];
    ASSERT_EQ(::pipe(gate), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        TestDaemon daemon;
        daemon.set_file("/file", kPartBytes);
        daemon.intercept([&](const wire::Request& request) -> std::optional<wire::Reply> {
            if (!std::holds_alternative<wire::Unlink>(request)) return std::nullopt;
            daemon.fence("/file", {0, kPartBytes});
            return wire::Reply{};
        });
        const auto path = daemon.socket_path();
        (void)!::write(gate[1], path.data(), path.size());
        for (;;) ::pause();
    }
    char path[200] = "";
    ASSERT_GT(::read(gate[0], path, sizeof path - 1), 0);
    rf_session* session = nullptr;
    rf_file* file = nullptr;
    rf_mapping* mapping = nullptr;
    ASSERT_EQ(rf_connect(path, &session, nullptr, 0), 0);
    ASSERT_EQ(rf_open(session, "/file", RF_READ | RF_WRITE, &file), 0);
    ASSERT_EQ(rf_map(file, 0, kPartBytes, RF_READ | RF_WRITE, &mapping), 0);
    ASSERT_EQ(rf_unlink(session, "/file"), 0) << detail_of(session);
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    std::filesystem::remove_all(std::filesystem::path(path).parent_path());

    std::atomic<int> seen = -1;
    std::thread reader([&] { seen = *static_cast<volatile std::uint8_t*>(rf_address(mapping)); });
    const int userfaultfd = find_userfaultfd();
    ASSERT_GE(userfaultfd, 0);
    pollfd event{userfaultfd, POLLIN, 0};
    EXPECT_EQ(::poll(&event, 1, 20000), 1) << "the reader does not wait";
    EXPECT_EQ(seen, -1);
    std::vector<std::uint8_t> page(base::kPageBytes, 33);
    uffdio_copy copy{};
    copy.dst = reinterpret_cast<std::uintptr_t>(rf_address(mapping));
    copy.src = reinterpret_cast<std::uintptr_t>(page.data());
    copy.len = page.size();
    EXPECT_EQ(::ioctl(userfaultfd, UFFDIO_COPY, &copy), 0);
    reader.join();
    EXPECT_EQ(seen, 33);
    rf_disconnect(session);
    ::close(gate[0]);
    ::close(gate[1]);
}

// Whatever comes over the pager channel, the program does not crash, and its memory is not touched.
class BrokenDaemonTest : public DaemonGoneTest {
  protected:
    void send(const wire::Places& places, std::span<const int> descriptors = {}) {
        daemon_->send_to_pager(wire::encode(wire::PagerMessage(places)), descriptors);
    }
    wire::Place place_of(const rf_mapping* mapping) {
        const auto address = reinterpret_cast<std::uintptr_t>(rf_address(mapping));
        return {daemon_->mappings().back().id, address, kFileBytes, 0, 0, base::Access::ReadWrite};
    }
    rf_mapping* map_with_content() {
        daemon_->write(kPath, 0, std::vector<std::uint8_t>{6});
        return map(RF_READ | RF_WRITE);
    }
};

TEST_F(BrokenDaemonTest, PlaceOutsideOfTheMappingEndsTheSession) {
    rf_mapping* const mapping = map_with_content();
    ASSERT_NE(mapping, nullptr);
    auto place = place_of(mapping);
    place.length += base::kPageBytes;
    base::UniqueFd other(::memfd_create("other", MFD_CLOEXEC));
    const std::array descriptors{other.get()};
    send({1000, {place}}, descriptors);
    expect_ended("outside of its mapping");
    EXPECT_EQ(bytes_of(mapping)[0], 6);
    // The daemon is still told what is no longer mapped.
    EXPECT_EQ(rf_unmap(mapping), 0);
    EXPECT_TRUE(daemon_->mappings().empty());
}

TEST_F(BrokenDaemonTest, DescriptorThatWasNotSentEndsTheSession) {
    rf_mapping* const mapping = map_with_content();
    ASSERT_NE(mapping, nullptr);
    send({1000, {place_of(mapping)}});
    expect_ended("descriptor that it did not send");
    EXPECT_EQ(bytes_of(mapping)[0], 6);
}

TEST_F(BrokenDaemonTest, GarbageEndsTheSession) {
    rf_mapping* const mapping = map_with_content();
    ASSERT_NE(mapping, nullptr);
    daemon_->send_to_pager(std::vector<std::uint8_t>(100, 0xee));
    expect_ended("does not begin as one");
    EXPECT_EQ(bytes_of(mapping)[0], 6);
}

TEST_F(BrokenDaemonTest, DescriptorThatCannotBeMappedEndsTheSession) {
    rf_mapping* const mapping = map_with_content();
    ASSERT_NE(mapping, nullptr);
    base::UniqueFd directory(::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const std::array descriptors{directory.get()};
    send({1000, {place_of(mapping)}}, descriptors);
    expect_ended("map a new place");
    EXPECT_EQ(bytes_of(mapping)[0], 6);
}

TEST_F(BrokenDaemonTest, PlacesOfUnknownMappingsAndNeedlessRingsAreHarmless) {
    rf_mapping* const mapping = map_with_content();
    ASSERT_NE(mapping, nullptr);
    auto place = place_of(mapping);
    place.mapping = base::MappingId(place.mapping.raw() + 100);
    base::UniqueFd other(::memfd_create("other", MFD_CLOEXEC));
    const std::array descriptors{other.get()};
    send({1000, {place}}, descriptors);
    for (int i = 0; i < 10; ++i) daemon_->ring();
    bytes_of(mapping)[1] = 7;
    daemon_->move(kPath, {0, kFileBytes});
    EXPECT_EQ(bytes_of(mapping)[0], 6);
    EXPECT_EQ(bytes_of(mapping)[1], 7);
}

}  // namespace
}  // namespace refault::client::testing
