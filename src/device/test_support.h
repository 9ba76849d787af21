// For tests: directories that go with what is in and mounted on them, the kinds of filesystem that
// a device may lie on, and children that run a part of a test with fewer rights.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/test_random.h"
#include "device/device.h"
#include "sys/mount.h"

namespace refault::device::testing {

using base::Code;
using base::testing::Random;

inline constexpr uid_t kNobody = 65534;

class TempDirectory {
  public:
    explicit TempDirectory(const std::string& base = "/dev/shm") {
        std::string path = base + "/refault-device-test-XXXXXX";
        path_ = ::mkdtemp(path.data()) != nullptr ? path : "";
    }
    ~TempDirectory() {
        if (path_.empty()) return;
        if (is_mounted_) base::discard(sys::unmount(path_), "the removal below shows it");
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TempDirectory(const TempDirectory&) = delete;
    TempDirectory& operator=(const TempDirectory&) = delete;

    base::Status mount(std::uint64_t size_bytes) {
        auto mounted = sys::mount_tmpfs(path_, {size_bytes, std::nullopt});
        is_mounted_ = mounted.ok();
        return mounted;
    }
    const std::string& path() const { return path_; }
    std::string file(const std::string& name) const { return path_ + "/" + name; }

  private:
    std::string path_;
    bool is_mounted_ = false;
};

// Runs `body` in a child; its result is the child's exit status. The child runs no test of gtest's:
// it returns numbers.
inline int in_child(const std::function<int()>& body) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(body());
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}
// The same without root's rights.
inline int in_nobodys_child(const std::function<int()>& body) {
    return in_child([&] {
        if (::setresgid(kNobody, kNobody, kNobody) != 0 ||
            ::setresuid(kNobody, kNobody, kNobody) != 0)
            return 99;
        return body();
    });
}

inline DeviceSpec dir_spec(const std::string& path, std::uint64_t segment_bytes,
                           std::uint32_t segments, const std::string& name = "a") {
    DeviceSpec spec;
    spec.name = name;
    spec.kind = DeviceKind::Dir;
    spec.path = path;
    spec.size_bytes = segment_bytes * segments;
    spec.segment_bytes = segment_bytes;
    return spec;
}

inline DeviceSpec ram_spec(std::uint64_t size_bytes, const std::string& name = "a") {
    DeviceSpec spec;
    spec.name = name;
    spec.size_bytes = size_bytes;
    return spec;
}

inline Label label_for(const Device& device) {
    Label label;
    label.device = *base::Uuid::random();
    label.pool = *base::Uuid::random();
    label.name = device.name();
    label.id = base::DeviceId(3);
    label.segment_bytes = device.segment_bytes();
    label.segment_count = device.segment_count();
    label.generation = 1;
    return label;
}

#define ASSERT_OK(expression)                                                          \
    do {                                                                               \
        const auto& status_ = (expression);                                            \
        ASSERT_TRUE(status_.ok()) << #expression << ": " << status_.error().message(); \
    } while (false)

// `what` has that code, and its message holds the text.
template <typename T>
void expect_error(const base::Result<T>& result, Code code, const std::string& text) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code(), code) << result.error().message();
    EXPECT_NE(result.error().message().find(text), std::string::npos) << result.error().message();
    EXPECT_EQ(result.error().message().find('\n'), std::string::npos);
}

// Where a device lies: a tmpfs of its own with huge pages, shared memory, or the disk of TMPDIR.
enum class Place { HugeTmpfs, SharedMemory, Disk };

inline std::string place_name(const ::testing::TestParamInfo<Place>& info) {
    switch (info.param) {
        case Place::HugeTmpfs:
            return "HugeTmpfs";
        case Place::SharedMemory:
            return "SharedMemory";
        case Place::Disk:
            return "Disk";
    }
    return "Unknown";
}

class OnEveryPlace : public ::testing::TestWithParam<Place> {
  protected:
    static constexpr std::uint64_t kSegmentBytes = 256 * 1024;
    static constexpr std::uint32_t kSegments = 8;

    void SetUp() override {
        home_ = std::make_unique<TempDirectory>(base_directory());
        ASSERT_FALSE(home_->path().empty()) << base_directory();
        if (GetParam() == Place::HugeTmpfs) {
            if (::geteuid() != 0) GTEST_SKIP() << "mounting a tmpfs takes root";
            ASSERT_OK(home_->mount(256ull << 20));
        }
        device_ = make(home_->path());
        ASSERT_NE(device_, nullptr);
    }
    static std::string base_directory() {
        const char* disk = std::getenv("TMPDIR");
        return GetParam() != Place::Disk ? "/dev/shm" : disk != nullptr ? disk : "/tmp";
    }
    static std::unique_ptr<Device> make(const std::string& path) {
        auto device =
            Device::create(dir_spec(path, kSegmentBytes, kSegments), *base::Uuid::random());
        EXPECT_TRUE(device.ok()) << device.error().message();
        return device ? std::move(*device) : nullptr;
    }

    std::unique_ptr<TempDirectory> home_;
    std::unique_ptr<Device> device_;
};

}  // namespace refault::device::testing
