// Making, opening, labelling and locking devices, and everything that must be refused.
#include "device/device.h"

#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <fstream>

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

Result<std::unique_ptr<Device>> create_at(const std::string& path) {
    return Device::create(dir_spec(path, kSegmentBytes, kSegments), *Uuid::random());
}

void put(const std::string& path, const std::string& text) {
    std::ofstream(path) << text;
}

class DeviceOnEveryPlace : public testing::OnEveryPlace {};
INSTANTIATE_TEST_SUITE_P(Places, DeviceOnEveryPlace,
                         ::testing::Values(testing::Place::HugeTmpfs, testing::Place::SharedMemory,
                                           testing::Place::Disk),
                         testing::place_name);

TEST_P(DeviceOnEveryPlace, KnowsWhetherItsPagesTakeUserfaults) {
    struct statfs status;
    ASSERT_EQ(::statfs(home_->path().c_str(), &status), 0);
    const bool is_shmem = status.f_type == TMPFS_MAGIC;
    EXPECT_EQ(device_->memory_kind(), is_shmem ? MemoryKind::Shmem : MemoryKind::Other);
    EXPECT_TRUE(is_shmem || GetParam() == testing::Place::Disk);
    EXPECT_FALSE(device_->is_private_mount()) << "nothing was mounted by the device";
    EXPECT_EQ(device_->directory(), home_->path());
}

TEST_P(DeviceOnEveryPlace, ALabelOpensTheDeviceAgain) {
    auto label = label_for(*device_);
    label.metadata_segments = {SegmentNo(3), SegmentNo(1)};
    ASSERT_OK(device_->write_label(label));
    EXPECT_EQ(device_->label().device, label.device);
    EXPECT_FALSE(fs::exists(home_->file("label.new")));
    label.generation = 2;
    ASSERT_OK(device_->write_label(label));
    device_.reset();

    auto spec = dir_spec(home_->path(), 0, 0, "other-name");
    spec.segment_bytes.reset();
    auto opened = Device::open(spec);
    ASSERT_OK(opened);
    EXPECT_EQ((*opened)->name(), label.name) << "the label's name counts";
    EXPECT_EQ((*opened)->segment_bytes(), kSegmentBytes);
    EXPECT_EQ((*opened)->segment_count(), kSegments);
    EXPECT_EQ((*opened)->label().generation, 2u);
    EXPECT_EQ((*opened)->label().metadata_segments, label.metadata_segments);
}

TEST_P(DeviceOnEveryPlace, AFailedWriteLeavesTheOldLabelWhole) {
    const auto label = label_for(*device_);
    ASSERT_OK(device_->write_label(label));
    ASSERT_EQ(::mkdir(home_->file("label.new").c_str(), 0700), 0);
    auto next = label;
    next.generation = 9;
    EXPECT_FALSE(device_->write_label(next).ok());
    const auto kept = device_->read_label();
    ASSERT_OK(kept);
    EXPECT_EQ(kept->generation, 1u);
    EXPECT_EQ(device_->label().generation, 1u) << "what was not written is not told";
}

TEST_P(DeviceOnEveryPlace, RemoveLabelRemovesIt) {
    ASSERT_OK(device_->write_label(label_for(*device_)));
    ASSERT_OK(device_->remove_label());
    EXPECT_EQ(device_->read_label().error().code(), Code::NotFound);
    EXPECT_TRUE(device_->remove_label().ok()) << "there is none any more";
}

TEST_P(DeviceOnEveryPlace, LeavesTheFilesWhenItGoes) {
    ASSERT_OK(device_->write_label(label_for(*device_)));
    ASSERT_OK(device_->create_segment(SegmentNo(2)));
    device_.reset();
    EXPECT_TRUE(fs::exists(home_->file("label")));
    EXPECT_TRUE(fs::exists(home_->file("seg-00002")));
}

TEST(Device, CutsItsSizeIntoWholeSegments) {
    const TempDirectory home;
    auto spec = dir_spec(home.path(), 2 << 20, 0);
    spec.segment_bytes.reset();
    spec.size_bytes = (13ull << 20) + 5;
    auto device = Device::create(spec, Uuid{});
    ASSERT_OK(device);
    EXPECT_EQ((*device)->segment_bytes(), 2u << 20);
    EXPECT_EQ((*device)->segment_count(), 6u);
    EXPECT_EQ((*device)->capacity_bytes(), 12u << 20);
    EXPECT_EQ((*device)->segment_at((4u << 20) - 1), SegmentNo(1));
    EXPECT_EQ((*device)->segment_at(4u << 20), SegmentNo(2));
    EXPECT_EQ((*device)->segment_range(SegmentNo(2)), DeviceRange(4u << 20, 6u << 20));
}

TEST(Device, WithoutASizeTakesWhatTheFilesystemHasFree) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a tmpfs takes root";
    TempDirectory home;
    ASSERT_OK(home.mount(64ull << 20));
    auto spec = dir_spec(home.path(), 1 << 20, 0);
    auto device = Device::create(spec, Uuid{});
    ASSERT_OK(device);
    EXPECT_LE((*device)->capacity_bytes(), 60ull << 20) << "room for the label";
    EXPECT_GE((*device)->capacity_bytes(), 56ull << 20);
    const auto free_bytes = (*device)->host_free_bytes();
    ASSERT_OK(free_bytes);
    EXPECT_GE(*free_bytes, (*device)->capacity_bytes());
}

TEST(Device, TooSmallNamesTheLeastSize) {
    const TempDirectory home;
    auto spec = dir_spec(home.path(), 2 << 20, 3);
    expect_error(Device::create(spec, Uuid{}), Code::Invalid, "at least 8.0 MiB");
    expect_error(Device::create(testing::ram_spec(1 << 20), Uuid{}), Code::Invalid,
                 "at least 8.0 MiB");
    spec.size_bytes = 8 << 20;
    EXPECT_TRUE(Device::create(spec, Uuid{}).ok());
}

TEST(Device, WhatIsRefusedIsLeftAsItWas) {
    const TempDirectory home;
    const auto names = [&] {
        std::vector<std::string> found;
        for (const auto& entry : fs::directory_iterator(home.path()))
            found.push_back(entry.path().filename());
        return found;
    };
    expect_error(Device::create(dir_spec(home.path(), 2 << 20, 3), Uuid{}), Code::Invalid,
                 "at least 8.0 MiB");
    EXPECT_EQ(names(), std::vector<std::string>{});
    expect_error(Device::open(dir_spec(home.path(), kSegmentBytes, kSegments)), Code::NotFound,
                 "no label");
    EXPECT_EQ(names(), std::vector<std::string>{});
    std::ofstream(home.file("letter")) << "of somebody";
    const auto spec = dir_spec(home.path(), kSegmentBytes, kSegments);
    expect_error(Device::create(spec, Uuid{}), Code::Exists, "is not empty");
    EXPECT_EQ(names(), std::vector<std::string>{"letter"});
    fs::remove(home.file("letter"));
    // One that was made, but never got a label: another device of its pool was refused.
    { ASSERT_OK(Device::create(spec, Uuid{})); }
    EXPECT_EQ(names(), std::vector<std::string>{});
}

TEST(Device, RefusesASpecThatNoParserMade) {
    const TempDirectory home;
    auto spec = dir_spec(home.path(), kSegmentBytes, kSegments, "a/b");
    expect_error(Device::create(spec, Uuid{}), Code::Invalid, "no name for a device");
    spec.name = "a";
    for (const std::uint64_t bytes : {0ull, 1ull, 2048ull, 12288ull, 1ull << 31, 1ull << 63}) {
        spec.segment_bytes = bytes;
        expect_error(Device::create(spec, Uuid{}), Code::Invalid, "power of two from 4K to 1G");
    }
    expect_error(Device::create(testing::ram_spec(0), Uuid{}), Code::Invalid, "needs a size");
    spec.segment_bytes = 4096;
    spec.size_bytes = UINT64_MAX;
    expect_error(Device::create(spec, Uuid{}), Code::Invalid, "too large");
}

TEST(Device, TheDirectoryMustBeThere) {
    const TempDirectory home;
    expect_error(create_at(home.file("missing")), Code::NotFound, "missing");
    expect_error(Device::open(dir_spec(home.file("missing"), 0, 0)), Code::NotFound, "missing");
}

TEST(Device, ADirectoryWithForeignFilesIsRefused) {
    const TempDirectory home;
    const auto spec = dir_spec(home.path(), kSegmentBytes, kSegments, "a");
    std::filesystem::create_directory(home.file("lost+found"));
    ASSERT_OK(Device::create(spec, Uuid{}));
    std::ofstream(home.file("thesis.tex")) << "years of work";
    expect_error(Device::create(spec, Uuid{}), Code::Exists, "thesis.tex");
}

TEST(Device, TheDirectoryMustBeADirectoryItself) {
    const TempDirectory home;
    fs::create_directory(home.file("real"));
    fs::create_symlink(home.file("real"), home.file("link"));
    put(home.file("file"), "x");
    expect_error(create_at(home.file("link")), Code::Invalid, "symbolic link");
    expect_error(create_at(home.file("file")), Code::Invalid, "name a directory itself");
    EXPECT_TRUE(fs::is_empty(home.file("real"))) << "nothing was made through the link";
}

TEST(Device, TheDirectoryMustBelongToTheCallerOrRoot) {
    if (::geteuid() != 0) GTEST_SKIP() << "giving a directory away takes root";
    const TempDirectory home;
    ASSERT_EQ(::chown(home.path().c_str(), testing::kNobody, testing::kNobody), 0);
    expect_error(create_at(home.path()), Code::Denied, "another user");
    EXPECT_TRUE(fs::is_empty(home.path()));
    EXPECT_EQ(testing::in_nobodys_child([&] { return create_at(home.path()).ok() ? 0 : 1; }), 0);
}

TEST(Device, TheDirectoryMustNotBeEverybodysToWrite) {
    const TempDirectory home;
    ASSERT_EQ(::chmod(home.path().c_str(), 01777), 0);
    expect_error(create_at(home.path()), Code::Denied, "chmod go-w");
    EXPECT_TRUE(fs::is_empty(home.path()));
}

TEST(Device, TwoDaemonsNeverOwnOneDevice) {
    const TempDirectory home;
    auto first = create_at(home.path());
    ASSERT_OK(first);
    ASSERT_OK((*first)->write_label(label_for(**first)));
    expect_error(create_at(home.path()), Code::Busy, home.path());
    expect_error(Device::open(dir_spec(home.path(), 0, 0)), Code::Busy, home.path());
    EXPECT_EQ(testing::in_child([&] {
                  auto other = Device::open(dir_spec(home.path(), 0, 0));
                  return !other && other.error().code() == Code::Busy ? 0 : 1;
              }),
              0);
    first->reset();
    EXPECT_TRUE(Device::open(dir_spec(home.path(), 0, 0)).ok());
}

TEST(Device, AMembersDirectoryIsNotMadeAnew) {
    const TempDirectory home;
    const auto pool = *Uuid::random();
    {
        auto device = create_at(home.path());
        ASSERT_OK(device);
        auto label = label_for(**device);
        label.pool = pool;
        ASSERT_OK((*device)->write_label(label));
    }
    expect_error(create_at(home.path()), Code::Exists, pool.to_string());
    expect_error(Device::create(dir_spec(home.path(), kSegmentBytes, kSegments), pool),
                 Code::Exists, "this pool");
}

TEST(Device, ATombstoneIsTakenOverButNotOpened) {
    const TempDirectory home;
    {
        auto device = create_at(home.path());
        ASSERT_OK(device);
        auto label = label_for(**device);
        label.state = LabelState::Removed;
        label.generation = 5;
        ASSERT_OK((*device)->write_label(label));
    }
    expect_error(Device::open(dir_spec(home.path(), 0, 0)), Code::NotFound,
                 "add it as a new device");
    auto device = create_at(home.path());
    ASSERT_OK(device);
    EXPECT_EQ((*device)->label().generation, 5u) << "the next life counts on from it";
}

TEST(Device, LeftOverSegmentsAreNotOverwritten) {
    const TempDirectory home;
    put(home.file("seg-00000"), "data");
    expect_error(create_at(home.path()), Code::Exists, "segment files");
    EXPECT_EQ(fs::file_size(home.file("seg-00000")), 4u);
}

TEST(Device, WithoutALabelThereIsNothingToOpen) {
    const TempDirectory home;
    expect_error(Device::open(dir_spec(home.path(), 0, 0)), Code::NotFound, "no label");
    expect_error(Device::open(testing::ram_spec(64 << 20)), Code::Invalid, "does not outlive");
}

TEST(Device, ABadLabelIsAnErrorWhateverItIs) {
    const TempDirectory home;
    const auto label = home.file("label");
    const auto try_both = [&](Code code, const std::string& text) {
        expect_error(Device::open(dir_spec(home.path(), 0, 0)), code, text);
        expect_error(create_at(home.path()), code, text);
        fs::remove(label);
    };
    put(label, "nonsense that is long enough to be one");
    try_both(Code::Corrupt, "magic");
    put(label, "");
    try_both(Code::Corrupt, "too short");
    put(label, "x");
    fs::resize_file(label, 1ull << 40);
    try_both(Code::Corrupt, "too large");
    fs::create_directory(label);
    try_both(Code::Denied, "no regular file");
    // A pipe would keep an ordinary open waiting for ever.
    ASSERT_EQ(::mkfifo(label.c_str(), 0600), 0);
    try_both(Code::Denied, "no regular file");
    put(home.file("elsewhere"), "x");
    fs::create_symlink(home.file("elsewhere"), label);
    try_both(Code::Denied, "symbolic link");
}

TEST(Device, ALabelOfANewerVersionIsRefusedAndKept) {
    const TempDirectory home;
    Label label;
    label.name = "a";
    label.segment_bytes = 4096;
    label.segment_count = 4;
    auto bytes = encode_label(label);
    bytes[8] = kLabelVersion + 1;
    put(home.file("label"), std::string(bytes.begin(), bytes.end()));
    expect_error(Device::open(dir_spec(home.path(), 0, 0)), Code::NotSupported, "newer refault");
    expect_error(create_at(home.path()), Code::NotSupported, "newer refault");
    EXPECT_EQ(fs::file_size(home.file("label")), bytes.size());
}

TEST(Device, ALockThatIsNoFileIsAnError) {
    const TempDirectory home;
    put(home.file("elsewhere"), "");
    fs::create_symlink(home.file("elsewhere"), home.file("lock"));
    EXPECT_FALSE(create_at(home.path()).ok());
    fs::remove(home.file("lock"));
    fs::create_directory(home.file("lock"));
    EXPECT_FALSE(create_at(home.path()).ok());
}

TEST(Device, HugetlbfsIsRefusedWithTheReason) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a hugetlbfs takes root";
    const TempDirectory home;
    if (::mount("none", home.path().c_str(), "hugetlbfs", 0, "mode=0700") != 0)
        GTEST_SKIP() << "this kernel has no hugetlbfs";
    expect_error(create_at(home.path()), Code::NotSupported, "huge=always");
    EXPECT_TRUE(fs::is_empty(home.path())) << "refused before anything is made";
    EXPECT_EQ(::umount2(home.path().c_str(), MNT_DETACH), 0);
}

}  // namespace
}  // namespace refault::device
