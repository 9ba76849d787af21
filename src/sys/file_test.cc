// File wrappers: whole transfers or an error, replacement as a whole, holes told from short files.
#include "sys/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/test_random.h"

namespace refault::sys {
namespace {

namespace fs = std::filesystem;
using base::Code;
using Bytes = std::vector<std::uint8_t>;

class Files : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string path = "/dev/shm/refault-file-test-XXXXXX";
        ASSERT_NE(::mkdtemp(path.data()), nullptr);
        path_ = path;
        auto opened = open_directory(path);
        ASSERT_TRUE(opened.ok()) << opened.error().message();
        directory_ = std::move(*opened);
    }
    void TearDown() override {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    UniqueFd file(const std::string& name, std::uint64_t size_bytes) {
        auto fd = open_at(directory_.get(), name, O_RDWR | O_CREAT, 0600);
        EXPECT_TRUE(fd.ok() && set_size(fd->get(), size_bytes).ok());
        return fd ? std::move(*fd) : UniqueFd();
    }
    std::string text(const std::string& name) {
        auto read = read_small_file(directory_.get(), name, 1 << 20);
        return read ? *read : read.error().message();
    }
    static std::span<const std::uint8_t> as_bytes(std::string_view text) {
        return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
    }
    fs::path path_;
    UniqueFd directory_;
};

TEST_F(Files, OpenDoesNotFollowLinksAndClosesOnExec) {
    const auto real = file("real", 1);
    EXPECT_EQ(::fcntl(real.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    EXPECT_EQ(::fcntl(directory_.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    fs::create_symlink("real", path_ / "link");
    EXPECT_EQ(open_at(directory_.get(), "link", O_RDONLY).error().sys_errno(), ELOOP);
    fs::create_directory(path_ / "below");
    fs::create_symlink("below", path_ / "below-link");
    EXPECT_TRUE(open_directory(path_ / "below").ok());
    EXPECT_FALSE(open_directory(path_ / "below-link").ok());
    EXPECT_EQ(open_at(directory_.get(), "none", O_RDONLY).error().code(), Code::NotFound);
}

TEST_F(Files, ReadsAllOrFails) {
    const auto fd = file("f", 0);
    base::testing::Random random;
    const auto data = random.bytes(300'000);
    ASSERT_TRUE(write_fully(fd.get(), 1000, data).ok());
    Bytes found(data.size());
    ASSERT_TRUE(read_fully(fd.get(), 1000, found).ok());
    EXPECT_EQ(found, data);
    const auto beyond = read_fully(fd.get(), 1001, found);
    ASSERT_FALSE(beyond.ok());
    EXPECT_EQ(beyond.error().code(), Code::Io);
}

TEST_F(Files, ListNamesGivesEveryNameOnceAndLeavesTheDescriptorUsable) {
    for (const char* name : {"b", "a", ".hidden"}) file(name, 1);
    for (int round = 0; round < 2; ++round) {
        auto names = list_names(directory_.get());
        ASSERT_TRUE(names);
        std::sort(names->begin(), names->end());
        EXPECT_EQ(*names, (std::vector<std::string>{".hidden", "a", "b"}));
    }
    EXPECT_FALSE(list_names(-1));
}

TEST_F(Files, RenameTakesTheOtherNamesPlace) {
    file("a", 1);
    file("b", 2);
    ASSERT_TRUE(rename_file(directory_.get(), "a", "b").ok());
    EXPECT_FALSE(fs::exists(path_ / "a"));
    EXPECT_EQ(fs::file_size(path_ / "b"), 1u);
    EXPECT_EQ(rename_file(directory_.get(), "a", "b").error().code(), Code::NotFound);
}

TEST_F(Files, ReadSmallFileRefusesWhatIsNone) {
    file("large", 101);
    EXPECT_EQ(read_small_file(directory_.get(), "large", 100).error().code(), Code::Corrupt);
    EXPECT_TRUE(read_small_file(directory_.get(), "large", 101).ok());
    ASSERT_EQ(::mkfifo((path_ / "pipe").c_str(), 0600), 0);
    EXPECT_EQ(read_small_file(directory_.get(), "pipe", 100).error().code(), Code::Corrupt);
    fs::create_directory(path_ / "below");
    EXPECT_EQ(read_small_file(directory_.get(), "below", 100).error().code(), Code::Corrupt);
    file("empty", 0);
    EXPECT_EQ(text("empty"), "");
}

TEST_F(Files, RemoveIsDoneWhenThereIsNone) {
    file("f", 1);
    EXPECT_TRUE(remove_file(directory_.get(), "f").ok());
    EXPECT_FALSE(fs::exists(path_ / "f"));
    EXPECT_TRUE(remove_file(directory_.get(), "f").ok());
    fs::create_directory(path_ / "below");
    EXPECT_FALSE(remove_file(directory_.get(), "below").ok());
}

TEST_F(Files, NextDataTellsHolesFromShortFiles) {
    const auto fd = file("f", 100 * 4096);
    ASSERT_TRUE(write_fully(fd.get(), 10 * 4096, Bytes(2 * 4096, 1)).ok());
    const auto found = next_data(fd.get(), 0, 100 * 4096);
    ASSERT_TRUE(found.ok() && *found);
    EXPECT_EQ((*found)->begin, 10u * 4096);
    EXPECT_EQ((*found)->end, 12u * 4096);
    const auto none = next_data(fd.get(), 12 * 4096, 100 * 4096);
    ASSERT_TRUE(none.ok());
    EXPECT_FALSE(*none);
    const auto before = next_data(fd.get(), 0, 10 * 4096);
    ASSERT_TRUE(before.ok());
    EXPECT_FALSE(*before) << "the end is not inside";
    EXPECT_EQ(next_data(fd.get(), 12 * 4096, 101 * 4096).error().code(), Code::Io);
}

TEST_F(Files, CopiesGiveTheSameBytesWhateverTheBuffer) {
    base::testing::Random random;
    const auto from = file("from", 0);
    const auto data = random.bytes(3'000'001);
    ASSERT_TRUE(write_fully(from.get(), 0, data).ok());
    for (int round = 0; round < 20; ++round) {
        const auto begin = random.below(data.size());
        const auto length = random.below(data.size() - begin + 1);
        const auto at = random.below(10'000);
        Bytes buffer(1 + random.below(500'000));
        const auto to = file("to" + std::to_string(round), 0);
        const auto copied = copy_through(from.get(), begin, to.get(), at, length, buffer);
        ASSERT_TRUE(copied.ok()) << copied.error().message();
        Bytes found(length);
        ASSERT_TRUE(read_fully(to.get(), at, found).ok());
        ASSERT_TRUE(std::equal(found.begin(), found.end(),
                               data.begin() + static_cast<std::ptrdiff_t>(begin)));
    }
    const auto to = file("short", 0);
    Bytes buffer(65536);
    EXPECT_EQ(copy_through(from.get(), 0, to.get(), 0, data.size() + 1, buffer).error().code(),
              Code::Io);
}

TEST_F(Files, AnotherOpenerIsNoticedAndItsEndToo) {
    const auto own = file("own", 4096);
    EXPECT_EQ(has_other_opener(own.get()), false);
    {
        const auto other = open_at(directory_.get(), "own", O_RDONLY);
        ASSERT_TRUE(other.ok());
        EXPECT_EQ(has_other_opener(own.get()), true);
    }
    EXPECT_EQ(has_other_opener(own.get()), false);
}

TEST_F(Files, ErrnoIsKept) {
    const auto reader = open_at(directory_.get(), ".", O_RDONLY | O_DIRECTORY);
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(write_fully(reader->get(), 0, Bytes(1)).error().sys_errno(), EBADF);
    Bytes one(1);
    EXPECT_EQ(read_fully(reader->get(), 0, one).error().sys_errno(), EISDIR);
    EXPECT_EQ(punch_hole(-1, 0, 1).error().sys_errno(), EBADF);
    EXPECT_EQ(allocate(-1, 0, 1).error().sys_errno(), EBADF);
    EXPECT_EQ(sync_data(-1).error().sys_errno(), EBADF);
    EXPECT_EQ(sync_directory(-1).error().sys_errno(), EBADF);
    EXPECT_EQ(set_size(-1, 0).error().sys_errno(), EBADF);
    EXPECT_EQ(next_data(-1, 0, 1).error().sys_errno(), EBADF);
}

}  // namespace
}  // namespace refault::sys
