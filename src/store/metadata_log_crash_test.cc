// Crashes between any two system calls, and in the middle of a write: what was acknowledged is
// there, and nothing that was never written.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "store/test_faults.h"
#include "store/test_log.h"

namespace refault::store::testing {
namespace {

namespace fs = std::filesystem;

// Shows a check the pool as a crash before and in the middle of every changing call would leave it.
class CrashEverywhere {
  public:
    using Check = std::function<void(const MetadataLog::History&, const std::string& where)>;
    CrashEverywhere(const LogDevices& devices, Check check)
        : devices_(devices), check_(std::move(check)) {}

    void during(const std::function<void()>& action) {
        {
            const CallWatch watch([&](const CallEvent& event) {
                if (event.is_change()) look(event);
                return Verdict{};
            });
            action();
        }
        look({Call::Sync, "the end"});
    }
    int count() const { return count_; }

  private:
    void look(const CallEvent& event) {
        ++count_;
        const auto where = "crash " + std::to_string(count_) + " before call " +
                           std::to_string(static_cast<int>(event.call)) + " on " + event.path;
        look_at(event, 0, 0, where);
        if (event.call != Call::Write) return;
        for (const auto torn : {std::size_t{1}, event.length / 2, event.length - 1}) {
            look_at(event, 0, torn,
                    where + ", the first " + std::to_string(torn) + " bytes written");
            look_at(event, torn, event.length,
                    where + ", all but the first " + std::to_string(torn) + " bytes written");
        }
    }
    // With the part [begin, end) of a write done.
    void look_at(const CallEvent& event, std::size_t begin, std::size_t end,
                 const std::string& where) {
        const TempDirectory snapshot;
        fs::copy(devices_.directory(), snapshot.path(), fs::copy_options::recursive);
        if (begin < end) {
            const auto path =
                snapshot.path() / fs::path(event.path).lexically_relative(devices_.directory());
            const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
            const auto* bytes = static_cast<const std::uint8_t*>(event.bytes);
            ASSERT_EQ(
                ::pwrite(fd, bytes + begin, end - begin, static_cast<off_t>(event.offset + begin)),
                static_cast<ssize_t>(end - begin));
            ::close(fd);
        }
        const auto history = read_at(snapshot.path());
        ASSERT_TRUE(history.ok()) << where << ": " << history.error().message();
        check_(*history, where);
    }

    const LogDevices& devices_;
    const Check check_;
    int count_ = 0;
};

class LogCrashTest : public ::testing::Test {
  protected:
    LogDevices devices_{3};
    PlainSpace space_{devices_};
    MetadataLog log_{devices_.uuid, space_};
};

TEST_F(LogCrashTest, DuringAnAppend) {
    ASSERT_TRUE(log_.checkpoint(devices_.copies({0, 1}), numbered(0, 3)).ok());
    std::uint64_t acknowledged = 0;
    CrashEverywhere crash(
        devices_, [&](const MetadataLog::History& history, const std::string& where) {
            EXPECT_EQ(history.checkpoint, numbered(0, 3)) << where;
            ASSERT_GE(history.transactions.size(), acknowledged) << where;
            ASSERT_LE(history.transactions.size(), acknowledged + 1) << where;
            EXPECT_EQ(history.transactions, numbered(0, history.transactions.size())) << where;
        });
    for (int i = 0; i < 60; ++i) {
        crash.during([&] { ASSERT_TRUE(log_.append(numbered(acknowledged)).ok()); });
        ++acknowledged;
        if (HasFailure()) return;
    }
    EXPECT_GT(devices_[0]->label().metadata_segments.size(), 2u)
        << "no segment was added in this test";
}

TEST_F(LogCrashTest, DuringACheckpoint) {
    ASSERT_TRUE(log_.checkpoint(devices_.copies({0, 1}), numbered(0, 3)).ok());
    for (std::uint64_t i = 3; i < 60; ++i) ASSERT_TRUE(log_.append(numbered(i)).ok());
    int olds = 0, news = 0;
    CrashEverywhere crash(devices_,
                          [&](const MetadataLog::History& history, const std::string& where) {
                              if (history.epoch == 1) {
                                  EXPECT_EQ(news, 0) << where << ": the old epoch is back";
                                  EXPECT_EQ(history.checkpoint, numbered(0, 3)) << where;
                                  EXPECT_EQ(history.transactions, numbered(3, 60)) << where;
                                  ++olds;
                              } else {
                                  EXPECT_EQ(history.epoch, 2u) << where;
                                  EXPECT_EQ(history.checkpoint, numbered(500, 560)) << where;
                                  EXPECT_TRUE(history.transactions.empty()) << where;
                                  ++news;
                              }
                          });
    // One copy stays, one ends, one begins.
    crash.during([&] {
        ASSERT_TRUE(log_.checkpoint(devices_.copies({1, 2}), numbered(500, 560)).ok());
    });
    EXPECT_GT(olds, 10);
    EXPECT_GT(news, 10);
}

TEST_F(LogCrashTest, WhileACopyFails) {
    ASSERT_TRUE(log_.checkpoint(devices_.copies({0, 1}), {}).ok());
    std::uint64_t acknowledged = 0;
    for (; acknowledged < 20; ++acknowledged) ASSERT_TRUE(log_.append(numbered(acknowledged)).ok());
    CrashEverywhere crash(
        devices_, [&](const MetadataLog::History& history, const std::string& where) {
            ASSERT_GE(history.transactions.size(), acknowledged) << where;
            ASSERT_LE(history.transactions.size(), acknowledged + 1) << where;
            EXPECT_EQ(history.transactions, numbered(0, history.transactions.size())) << where;
        });
    for (const auto segment : devices_[1]->label().metadata_segments)
        ASSERT_TRUE(devices_[1]->release_segment(segment).ok());
    for (; acknowledged < 30; ++acknowledged)
        crash.during([&] { ASSERT_TRUE(log_.append(numbered(acknowledged)).ok()); });
    EXPECT_EQ(log_.failed_copies(), std::vector{DeviceId(2)});
    EXPECT_TRUE(devices_[1]->read_label()->metadata_segments.empty());
}

// On a filesystem that keeps written bytes in memory until they are synced.
TEST(LogSync, NothingIsAcknowledgedBeforeItIsSynced) {
    std::string base = "/var/tmp/refault-log-test-XXXXXX";
    ASSERT_NE(::mkdtemp(base.data()), nullptr);
    const auto cleanup = std::shared_ptr<void>(nullptr, [&](void*) { fs::remove_all(base); });
    LogDevices devices(1);
    for (const char* name : {"x", "y"}) {
        device::DeviceSpec spec;
        spec.name = name;
        spec.kind = device::DeviceKind::Dir;
        spec.path = base + "/" + name;
        spec.size_bytes = 64 * 4096;
        spec.segment_bytes = 4096;
        fs::create_directory(spec.path);
        auto device = device::Device::create(spec, devices.uuid);
        ASSERT_TRUE(device.ok()) << device.error().message();
        if ((*device)->memory_kind() != device::MemoryKind::Other)
            GTEST_SKIP() << base << " is a tmpfs";
        devices.adopt(std::move(*device));
    }
    PlainSpace space(devices);
    MetadataLog log(devices.uuid, space);
    std::set<std::string> dirty;
    const CallWatch watch([&](const CallEvent& event) {
        const auto directory = fs::path(event.path).parent_path().string();
        if (event.call == Call::Write || event.call == Call::SetSize) dirty.insert(event.path);
        if (event.call == Call::Sync) dirty.erase(event.path);
        if (event.call == Call::Remove) dirty.erase(event.path);
        if (event.call == Call::Rename) {
            for (const auto& path : dirty)
                EXPECT_FALSE(path.starts_with(directory)) << "label before " << path;
            dirty.insert(directory);
        }
        return Verdict{};
    });
    for (std::uint64_t round = 0; round < 3; ++round) {
        ASSERT_TRUE(log.checkpoint(devices.copies({1, 2}), numbered(0, 60)).ok());
        EXPECT_EQ(dirty, std::set<std::string>{});
        for (std::uint64_t i = 0; i < 100; ++i) {
            ASSERT_TRUE(log.append(numbered(i)).ok());
            EXPECT_EQ(dirty, std::set<std::string>{});
        }
    }
}

}  // namespace
}  // namespace refault::store::testing
