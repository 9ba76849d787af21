// A child must not inherit what could pass a fence, and must not disturb its parent's session.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstring>

#include "client/test_session.h"

namespace refault::client::testing {
namespace {

using ForkTest = SessionTest;

TEST_F(ForkTest, ChildDoesNotInheritMappings) {
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    auto* const bytes = bytes_of(mapping);
    bytes[0] = 1;
    for (int i = 0; i < 2; ++i) {
        const int status = status_of_child([&] { return int{bytes[0]}; });
        EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) << status;
        daemon_->move(kPath, {0, kFileBytes});  // nor what was placed later
    }
    EXPECT_EQ(bytes[0], 1);
}

// In a child of a process with threads: no allocation, no locks.
bool maps_a_segment() {
    static char text[1 << 20];
    const int fd = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    std::size_t length = 0;
    for (ssize_t got; (got = ::read(fd, text + length, sizeof text - 1 - length)) > 0;)
        length += static_cast<std::size_t>(got);
    text[length] = '\0';
    return std::strstr(text, kSegmentName) != nullptr;
}

// The daemon of these tests lives in this process and has each segment open once for writing: a
// second descriptor is the pager's.
bool holds_a_segment_twice() {
    static ino_t seen[4096];
    std::size_t count = 0;
    for (int fd = 0; fd < 4096; ++fd) {
        char path[64], target[128];
        std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        const ssize_t length = ::readlink(path, target, sizeof target - 1);
        if (length < 0) continue;
        target[length] = '\0';
        struct stat status;
        if (std::strstr(target, kSegmentName) == nullptr || ::fstat(fd, &status) != 0 ||
            (::fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
            continue;
        for (std::size_t i = 0; i < count; ++i)
            if (seen[i] == status.st_ino) return true;
        seen[count++] = status.st_ino;
    }
    return false;
}

TEST_F(ForkTest, NorAnythingThatIsBeingPlacedAtThatMoment) {
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    std::atomic<bool> must_stop = false;
    std::atomic<int> moves = 0;
    std::thread mover([&] {
        for (; !must_stop; ++moves) {
            // Parts in two segments each time, so that there are many placements to meet.
            daemon_->move(kPath, {0, kPartBytes});
            daemon_->move(kPath, {kPartBytes, 2 * kPartBytes});
            for (int i = 0; i < 20; ++i) daemon_->replace(kPath, {0, kFileBytes});
        }
    });
    int inherited = 0, forks = 0;
    for (; forks < 300 || moves < 10; ++forks)
        inherited +=
            status_of_child([] { return maps_a_segment() || holds_a_segment_twice(); }) != 0;
    must_stop = true;
    mover.join();
    EXPECT_EQ(inherited, 0) << "of " << forks << " children";
}

TEST_F(ForkTest, ChildIsRefusedAndTheParentGoesOn) {
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    auto* const bytes = bytes_of(mapping);
    const int status = status_of_child([&] {
        rf_stat stat;
        // The addresses are free here and may serve something else, which an unmap must leave
        // alone.
        auto* const own = static_cast<volatile std::uint8_t*>(
            ::mmap(rf_address(mapping), base::kPageBytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
        if (own != bytes) return 1;
        own[0] = 3;
        if (rf_file_stat(file_, &stat) != -EPIPE) return 2;
        rf_file* file = nullptr;
        if (rf_open(session_, kPath, RF_READ, &file) != -EPIPE) return 3;
        if (detail_of(session_).find("connect anew in the child") == std::string::npos) return 4;
        if (rf_unmap(mapping) != -EPIPE || own[0] != 3) return 5;
        if (rf_close(file_) != -EPIPE) return 6;
        rf_disconnect(session_);
        return 0;
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    rf_stat stat;
    EXPECT_EQ(rf_file_stat(file_, &stat), 0) << detail_of(session_);
    bytes[0] = 8;
    daemon_->move(kPath, {0, kFileBytes});
    EXPECT_EQ(bytes[0], 8);
}

}  // namespace
}  // namespace refault::client::testing
