// The C library's functions as test_faults.h wants them, and the tests of that.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/limits.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "store/test_faults.h"
#include "store/test_log.h"

namespace refault::store::testing {
namespace {

thread_local CallWatch::Watch* watch_of_thread = nullptr;

std::string path_of(int fd) {
    char target[PATH_MAX];
    const auto length =
        ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof target);
    return length < 0 ? "" : std::string(target, static_cast<std::size_t>(length));
}

std::string path_of(int directory, const char* name) {
    return path_of(directory) + "/" + name;
}

// Makes the call as the watch decides. The watch's own calls are let through.
template <typename Event, typename Make>
auto decide(Event event, Make make) -> decltype(make()) {
    auto* watch = std::exchange(watch_of_thread, nullptr);
    if (watch == nullptr) return make();
    const CallEvent seen = event();
    const auto verdict = (*watch)(seen);
    if (verdict.error != 0 && seen.call == Call::Write && verdict.torn_bytes > 0) {
        (void)make();
        // Cutting what was written a moment ago leaves what a torn write leaves.
        const auto torn = std::min(verdict.torn_bytes, seen.length);
        const std::vector<std::uint8_t> zeros(seen.length - torn);
        const int fd = ::open(seen.path.c_str(), O_WRONLY | O_CLOEXEC);
        (void)::syscall(SYS_pwrite64, fd, zeros.data(), zeros.size(), seen.offset + torn);
        ::close(fd);
    } else if (verdict.error == 0 || verdict.has_effect) {
        const auto result = make();
        if (verdict.error == 0) {
            watch_of_thread = watch;
            return result;
        }
    }
    watch_of_thread = watch;
    errno = verdict.error;
    return -1;
}

}  // namespace

CallWatch::CallWatch(Watch watch) {
    watch_of_thread = new Watch(std::move(watch));
}
CallWatch::~CallWatch() {
    delete std::exchange(watch_of_thread, nullptr);
}

}  // namespace refault::store::testing

using refault::store::testing::Call;
using refault::store::testing::CallEvent;

extern "C" {

ssize_t pwrite(int fd, const void* from, size_t length, off_t offset) {
    using namespace refault::store::testing;
    return decide(
        [&] {
            return CallEvent{Call::Write, path_of(fd), static_cast<std::uint64_t>(offset), length,
                             from};
        },
        [&] { return ::syscall(SYS_pwrite64, fd, from, length, offset); });
}

ssize_t pread(int fd, void* into, size_t length, off_t offset) {
    using namespace refault::store::testing;
    return decide(
        [&] {
            return CallEvent{Call::Read, path_of(fd), static_cast<std::uint64_t>(offset), length};
        },
        [&] { return ::syscall(SYS_pread64, fd, into, length, offset); });
}

int fdatasync(int fd) {
    using namespace refault::store::testing;
    return static_cast<int>(decide(
        [&] {
            return CallEvent{Call::Sync, path_of(fd)};
        },
        [&] { return ::syscall(SYS_fdatasync, fd); }));
}

int fsync(int fd) {
    using namespace refault::store::testing;
    return static_cast<int>(decide(
        [&] {
            return CallEvent{Call::Sync, path_of(fd)};
        },
        [&] { return ::syscall(SYS_fsync, fd); }));
}

int ftruncate(int fd, off_t length) noexcept {
    using namespace refault::store::testing;
    return static_cast<int>(decide(
        [&] {
            return CallEvent{Call::SetSize, path_of(fd)};
        },
        [&] { return ::syscall(SYS_ftruncate, fd, length); }));
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
    using namespace refault::store::testing;
    return static_cast<int>(decide(
        [&] {
            return CallEvent{Call::Allocate, path_of(fd), static_cast<std::uint64_t>(offset),
                             static_cast<std::size_t>(length)};
        },
        [&] { return ::syscall(SYS_fallocate, fd, mode, offset, length); }));
}

int renameat(int from_directory, const char* from, int to_directory, const char* to) noexcept {
    using namespace refault::store::testing;
    return static_cast<int>(decide(
        [&] {
            return CallEvent{Call::Rename, path_of(to_directory, to)};
        },
        [&] { return ::syscall(SYS_renameat2, from_directory, from, to_directory, to, 0); }));
}

int unlinkat(int directory, const char* name, int flags) noexcept {
    using namespace refault::store::testing;
    return static_cast<int>(decide(
        [&] {
            return CallEvent{Call::Remove, path_of(directory, name)};
        },
        [&] { return ::syscall(SYS_unlinkat, directory, name, flags); }));
}

}  // extern "C"

namespace refault::store::testing {
namespace {

TEST(Faults, DeviceCallsAreSeenAndCanFail) {
    const LogDevices devices(1);
    const auto device = devices[0];
    std::vector<Call> calls;
    int error = 0;
    const CallWatch watch([&](const CallEvent& event) {
        calls.push_back(event.call);
        return Verdict{error};
    });
    const std::vector<std::uint8_t> bytes(100, 7);
    std::vector<std::uint8_t> back(100);
    ASSERT_TRUE(device->create_segment(base::SegmentNo(1)).ok());
    ASSERT_TRUE(device->write(4096, bytes).ok());
    ASSERT_TRUE(device->read(4096, back).ok());
    ASSERT_TRUE(device->punch(device->segment_range(base::SegmentNo(1))).ok());
    ASSERT_TRUE(device->write_label({}).ok());
    EXPECT_EQ(calls, (std::vector{Call::SetSize, Call::Write, Call::Read, Call::Allocate,
                                  Call::Write, Call::Sync, Call::Rename, Call::Sync}));
    error = EIO;
    const auto failed = device->write(4096, bytes);
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().sys_errno(), EIO);
    EXPECT_FALSE(device->release_segment(base::SegmentNo(1)).ok());
}

TEST(Faults, TornWriteLeavesItsFirstBytes) {
    const LogDevices devices(1);
    const auto device = devices[0];
    ASSERT_TRUE(device->create_segment(base::SegmentNo(0)).ok());
    {
        const CallWatch watch([](const CallEvent&) { return Verdict{EIO, false, 60}; });
        EXPECT_FALSE(device->write(10, std::vector<std::uint8_t>(100, 7)).ok());
    }
    std::vector<std::uint8_t> back(200);
    ASSERT_TRUE(device->read(0, back).ok());
    EXPECT_EQ(std::count(back.begin(), back.end(), 7), 60);
    EXPECT_EQ(back[69], 7);
    EXPECT_EQ(back[70], 0);
}

}  // namespace
}  // namespace refault::store::testing
