// Directories and files made by others are refused, with what to do; those of a usual umask are
// not.
#include "device/trust.h"

#include <sys/stat.h>

#include "device/test_support.h"

namespace refault::device {
namespace {

namespace fs = std::filesystem;
using base::Code;
using testing::dir_spec;
using testing::expect_error;
using testing::label_for;
using testing::TempDirectory;

constexpr std::uint64_t kSegmentBytes = 64 * 1024;
constexpr std::uint32_t kSegments = 8;

// A device with a label and one segment, closed again.
void make_device(const TempDirectory& home) {
    auto device =
        Device::create(dir_spec(home.path(), kSegmentBytes, kSegments), *base::Uuid::random());
    ASSERT_OK(device);
    ASSERT_OK((*device)->write_label(label_for(**device)));
    ASSERT_OK((*device)->create_segment(base::SegmentNo(2)));
}

Result<std::unique_ptr<Device>> open_at(const TempDirectory& home) {
    return Device::open(dir_spec(home.path(), 0, 0));
}

TEST(Trust, DirectoriesOfAUsualUmaskAreTaken) {
    for (const mode_t mode : {0700, 0750, 0755}) {
        const TempDirectory home;
        ASSERT_EQ(::chmod(home.path().c_str(), mode), 0);
        make_device(home);
        EXPECT_TRUE(open_at(home).ok()) << std::oct << mode;
    }
}

TEST(Trust, DirectoriesThatOthersMayWriteInAreRefusedOpenOrNew) {
    for (const mode_t mode : {0770, 0775, 0702, 01777}) {
        const TempDirectory home;
        make_device(home);
        ASSERT_EQ(::chmod(home.path().c_str(), mode), 0);
        expect_error(open_at(home), Code::Denied, "chmod go-w");
        expect_error(Device::peek_label(dir_spec(home.path(), 0, 0)), Code::Denied, "chmod go-w");
        EXPECT_FALSE(Device::wipe(dir_spec(home.path(), 0, 0)).ok());
        const TempDirectory fresh;
        ASSERT_EQ(::chmod(fresh.path().c_str(), mode), 0);
        expect_error(Device::create(dir_spec(fresh.path(), kSegmentBytes, kSegments), base::Uuid{}),
                     Code::Denied, "chmod go-w");
        EXPECT_TRUE(fs::is_empty(fresh.path()));
    }
}

TEST(Trust, LinksAndPipesInThePlaceOfFilesAreRefused) {
    for (const char* name : {"seg-00002", "label", "lock"}) {
        const TempDirectory home;
        make_device(home);
        const TempDirectory elsewhere;
        fs::rename(home.file(name), elsewhere.file(name));
        fs::create_symlink(elsewhere.file(name), home.file(name));
        expect_error(open_at(home), Code::Denied, "symbolic link");
        fs::remove(home.file(name));
        ASSERT_EQ(::mkfifo(home.file(name).c_str(), 0600), 0);
        expect_error(open_at(home), Code::Denied, "no regular file");
        fs::remove(home.file(name));
        fs::rename(elsewhere.file(name), home.file(name));
        EXPECT_TRUE(open_at(home).ok()) << name;
    }
}

TEST(Trust, FilesThatOthersMayWriteAreRefused) {
    for (const char* name : {"seg-00002", "label", "lock"})
        for (const mode_t mode : {0620, 0602, 0666}) {
            const TempDirectory home;
            make_device(home);
            ASSERT_EQ(::chmod(home.file(name).c_str(), mode), 0);
            expect_error(open_at(home), Code::Denied, "chmod go-w");
        }
}

TEST(Trust, FilesOfOtherUsersAreRefused) {
    if (::geteuid() != 0) GTEST_SKIP() << "giving files away takes root";
    for (const char* name : {"seg-00002", "label", "lock"}) {
        const TempDirectory home;
        make_device(home);
        ASSERT_EQ(::chown(home.file(name).c_str(), testing::kNobody, testing::kNobody), 0);
        expect_error(open_at(home), Code::Denied, "chown it");
    }
}

// What was right when the device was opened and is put in its place later.
TEST(Trust, ALinkThatComesLaterLeadsNowhere) {
    const TempDirectory home;
    make_device(home);
    auto device = open_at(home);
    ASSERT_OK(device);
    const TempDirectory elsewhere;
    fs::rename(home.file("seg-00002"), elsewhere.file("stolen"));
    fs::create_symlink(elsewhere.file("stolen"), home.file("seg-00002"));
    EXPECT_FALSE((*device)->open_segment(base::SegmentNo(2), base::Access::Read));
    fs::remove(home.file("seg-00002"));
    ASSERT_EQ(::mkfifo(home.file("seg-00002").c_str(), 0600), 0);
    EXPECT_FALSE((*device)->open_segment(base::SegmentNo(2), base::Access::Read));
}

// A daemon that is not root's holds to the same.
TEST(Trust, HoldsForOrdinaryUsersAsWell) {
    if (::geteuid() != 0) GTEST_SKIP() << "becoming another user takes root";
    const TempDirectory home;
    ASSERT_EQ(::chown(home.path().c_str(), testing::kNobody, testing::kNobody), 0);
    EXPECT_EQ(testing::in_nobodys_child([&] {
                  make_device(home);
                  if (!open_at(home).ok()) return 1;
                  if (::chmod(home.file("label").c_str(), 0666) != 0 || open_at(home).ok())
                      return 2;
                  if (::chmod(home.file("label").c_str(), 0644) != 0 || !open_at(home).ok())
                      return 3;
                  if (::chmod(home.path().c_str(), 0777) != 0 || open_at(home).ok()) return 4;
                  return 0;
              }),
              0);
    // And root does not take what an ordinary user can change.
    ASSERT_EQ(::chmod(home.path().c_str(), 0755), 0);
    expect_error(open_at(home), Code::Denied, "another user");
}

}  // namespace
}  // namespace refault::device
