// Segments: their files, byte access across their borders, and what is left of an earlier ownership
// (rule 6).
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include "device/test_support.h"

namespace refault::device {
namespace {

namespace fs = std::filesystem;
using base::Access;
using base::Code;
using testing::expect_error;
using testing::Random;

using Bytes = std::vector<std::uint8_t>;

class SegmentOnEveryPlace : public testing::OnEveryPlace {
  protected:
    void create(std::initializer_list<std::uint32_t> segments) {
        for (const auto segment : segments) ASSERT_OK(device_->create_segment(SegmentNo(segment)));
    }
    Bytes read(std::uint64_t offset, std::size_t length) {
        Bytes bytes(length, 0xee);
        const auto done = device_->read(offset, bytes);
        EXPECT_TRUE(done.ok()) << done.error().message();
        return bytes;
    }
    std::uint64_t allocated_bytes(std::uint32_t segment) {
        struct stat status;
        char name[16];
        std::snprintf(name, sizeof name, "seg-%05u", segment);
        EXPECT_EQ(::stat(home_->file(name).c_str(), &status), 0);
        return static_cast<std::uint64_t>(status.st_blocks) * 512;
    }
};
INSTANTIATE_TEST_SUITE_P(Places, SegmentOnEveryPlace,
                         ::testing::Values(testing::Place::HugeTmpfs, testing::Place::SharedMemory,
                                           testing::Place::Disk),
                         testing::place_name);

TEST_P(SegmentOnEveryPlace, AreHolesOfFullSizeForTheOwnerAlone) {
    create({5});
    struct stat status;
    ASSERT_EQ(::stat(home_->file("seg-00005").c_str(), &status), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), kSegmentBytes);
    EXPECT_EQ(status.st_blocks, 0);
    EXPECT_EQ(status.st_mode & 07777u, 0600u);
    EXPECT_EQ(read(5 * kSegmentBytes, 4096), Bytes(4096, 0));
}

TEST_P(SegmentOnEveryPlace, ComeAndGo) {
    EXPECT_FALSE(device_->has_segment(SegmentNo(1)));
    create({1});
    EXPECT_TRUE(device_->has_segment(SegmentNo(1)));
    expect_error(device_->create_segment(SegmentNo(1)), Code::Exists, "device a");
    ASSERT_OK(device_->release_segment(SegmentNo(1)));
    EXPECT_FALSE(device_->has_segment(SegmentNo(1)));
    EXPECT_TRUE(device_->release_segment(SegmentNo(1)).ok()) << "there is none any more";
    create({1});
}

TEST_P(SegmentOnEveryPlace, AreListedInOrderAndNothingElseIs) {
    create({7, 0, 3});
    for (const char* name :
         {"seg-1", "seg-00001x", "seg-", "seg-+0001", "segment", "seg-99999999999", "xseg-00002"})
        std::ofstream(home_->file(name)) << "x";
    const auto segments = device_->list_segments();
    ASSERT_OK(segments);
    EXPECT_EQ(*segments, (std::vector<SegmentNo>{SegmentNo(0), SegmentNo(3), SegmentNo(7)}));
}

TEST_P(SegmentOnEveryPlace, FreshOnesReplaceLeftOvers) {
    create({2});
    ASSERT_OK(device_->write(2 * kSegmentBytes, Bytes(100, 7)));
    const auto before = device_->segment_identity(SegmentNo(2));
    // Held open, so that its inode number cannot be given out again.
    const auto held = device_->open_segment(SegmentNo(2), Access::Read);
    ASSERT_OK(held);
    ASSERT_OK(device_->create_fresh_segment(SegmentNo(2)));
    EXPECT_EQ(read(2 * kSegmentBytes, 100), Bytes(100, 0))
        << "the cache must not keep the old file";
    const auto after = device_->segment_identity(SegmentNo(2));
    ASSERT_OK(after);
    EXPECT_NE(before->inode, after->inode);
    EXPECT_EQ(before->device, after->device);
    EXPECT_TRUE(device_->create_fresh_segment(SegmentNo(3)).ok()) << "there was none before";
}

TEST_P(SegmentOnEveryPlace, BytesComeBackAcrossBorders) {
    create({0, 1, 2});
    Random random;
    const auto data = random.bytes(2 * kSegmentBytes);
    const std::uint64_t offset = kSegmentBytes / 2 + 13;
    ASSERT_OK(device_->write(offset, data));
    EXPECT_EQ(read(offset, data.size()), data);
    EXPECT_EQ(read(0, offset), Bytes(offset, 0)) << "the bytes before are as they were";
    EXPECT_TRUE(device_->sync(DeviceRange(0, 3 * kSegmentBytes)).ok());
    EXPECT_TRUE(device_->read(0, {}).ok());
    EXPECT_TRUE(device_->write(device_->capacity_bytes(), {}).ok()) << "the empty range at the end";
}

TEST_P(SegmentOnEveryPlace, AccessToAMissingOneNamesIt) {
    create({0});
    Bytes bytes(kSegmentBytes);
    expect_error(device_->read(kSegmentBytes / 2, bytes), Code::NotFound, "seg-00001");
    expect_error(device_->write(3 * kSegmentBytes, bytes), Code::NotFound, "device a: seg-00003");
    expect_error(device_->open_segment(SegmentNo(4), Access::Read), Code::NotFound,
                 "device a: seg-00004");
    EXPECT_EQ(device_->segment_identity(SegmentNo(4)).error().code(), Code::NotFound);
}

TEST_P(SegmentOnEveryPlace, AFileCutShortIsAnErrorAndNoHole) {
    create({0, 1});
    ASSERT_OK(device_->write(0, Bytes(kSegmentBytes, 1)));
    fs::resize_file(home_->file("seg-00000"), 8192);
    Bytes bytes(kSegmentBytes);
    expect_error(device_->read(0, bytes), Code::Io, "shorter");
    expect_error(device_->next_data(DeviceRange(8192, kSegmentBytes)), Code::Io, "shorter");
    expect_error(copy_range(*device_, DeviceRange(0, kSegmentBytes), *device_, kSegmentBytes),
                 Code::Io, "shorter");
    // What was cut off must not come back as zeros because something was written behind it.
    expect_error(device_->write(kSegmentBytes - 4096, Bytes(4096, 2)), Code::Io, "cut");
    ASSERT_OK(device_->write(2 * kSegmentBytes - 4096, Bytes(4096, 3)));
    expect_error(copy_range(*device_, DeviceRange(kSegmentBytes, 2 * kSegmentBytes), *device_, 0),
                 Code::Io, "cut");
    EXPECT_EQ(fs::file_size(home_->file("seg-00000")), 8192u);
    ASSERT_OK(device_->write(4096, Bytes(4096, 2)));
    const auto state = device_->probe_segment(SegmentNo(0));
    EXPECT_EQ(state.health, SegmentHealth::Short);
    EXPECT_EQ(state.missing, DeviceRange(8192, kSegmentBytes));
}

TEST_P(SegmentOnEveryPlace, PunchDropsTheMemoryAndPopulateGivesIt) {
    create({0});
    ASSERT_OK(device_->populate(DeviceRange(0, kSegmentBytes)));
    EXPECT_GE(allocated_bytes(0), kSegmentBytes);
    ASSERT_OK(device_->write(0, Bytes(kSegmentBytes, 9)));
    ASSERT_OK(device_->punch(DeviceRange(4096, kSegmentBytes - 4096)));
    EXPECT_EQ(read(0, 4096), Bytes(4096, 9));
    EXPECT_EQ(read(4096, kSegmentBytes - 8192), Bytes(kSegmentBytes - 8192, 0));
    EXPECT_EQ(read(kSegmentBytes - 4096, 4096), Bytes(4096, 9));
    ASSERT_OK(device_->punch(DeviceRange(0, kSegmentBytes)));
    EXPECT_EQ(allocated_bytes(0), 0u);
    EXPECT_EQ(fs::file_size(home_->file("seg-00000")), kSegmentBytes);
}

TEST_P(SegmentOnEveryPlace, NextDataFindsTheIslands) {
    create({0, 1, 2});
    const auto next = [&](std::uint64_t begin, std::uint64_t end) {
        const auto found = device_->next_data(DeviceRange(begin, end));
        EXPECT_TRUE(found.ok()) << found.error().message();
        return found ? *found : std::nullopt;
    };
    EXPECT_FALSE(next(0, 3 * kSegmentBytes));
    ASSERT_OK(device_->write(kSegmentBytes + 64 * 1024, Bytes(64 * 1024, 1)));
    const auto island = DeviceRange::of_length(kSegmentBytes + 64 * 1024, 64 * 1024);
    const auto found = next(0, 3 * kSegmentBytes);
    ASSERT_TRUE(found);
    // A huge page makes the island larger than what was written.
    EXPECT_TRUE(found->contains(island)) << found->begin() << ".." << found->end();
    EXPECT_TRUE(DeviceRange(kSegmentBytes, 2 * kSegmentBytes).contains(*found));
    EXPECT_FALSE(next(2 * kSegmentBytes, 3 * kSegmentBytes));
    const auto inside = next(island.begin() + 4096, island.begin() + 8192);
    ASSERT_TRUE(inside);
    EXPECT_EQ(*inside, DeviceRange(island.begin() + 4096, island.begin() + 8192));
    EXPECT_FALSE(next(5, 5)) << "an empty range holds nothing";
}

TEST_P(SegmentOnEveryPlace, AReadersDescriptorCannotWrite) {
    create({0});
    const auto reader = device_->open_segment(SegmentNo(0), Access::Read);
    ASSERT_OK(reader);
    EXPECT_EQ(::pwrite(reader->get(), "x", 1, 0), -1);
    EXPECT_EQ(::ftruncate(reader->get(), 0), -1);
    EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, reader->get(), 0),
              MAP_FAILED);
    EXPECT_EQ(::fcntl(reader->get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    const auto writer = device_->open_segment(SegmentNo(0), Access::ReadWrite);
    ASSERT_OK(writer);
    EXPECT_EQ(::pwrite(writer->get(), "x", 1, 0), 1);
    EXPECT_EQ(read(0, 1), Bytes{'x'});
}

TEST_P(SegmentOnEveryPlace, ASymbolicLinkInItsPlaceIsNotFollowed) {
    const auto victim = home_->file("victim");
    std::ofstream(victim) << "keep";
    fs::create_symlink(victim, home_->file("seg-00000"));
    EXPECT_FALSE(device_->write(0, Bytes(4, 1)).ok());
    EXPECT_FALSE(device_->open_segment(SegmentNo(0), Access::ReadWrite).ok());
    EXPECT_FALSE(device_->release_segment(SegmentNo(0)).ok());
    EXPECT_EQ(fs::file_size(victim), 4u);
}

// The descriptors kept open are bounded: 300 segments under a limit of 200 descriptors.
TEST_P(SegmentOnEveryPlace, TheCacheOfDescriptorsIsBounded) {
    constexpr std::uint32_t kMany = 300;
    const testing::TempDirectory home(base_directory());
    const int failed_at = testing::in_child([&] {
        const rlimit limit{200, 200};
        auto device = Device::create(testing::dir_spec(home.path(), 4096, kMany), Uuid{});
        if (::setrlimit(RLIMIT_NOFILE, &limit) != 0 || !device) return 1;
        for (int round = 0; round < 2; ++round)
            for (std::uint32_t i = 0; i < kMany; ++i) {
                const Bytes mark{static_cast<std::uint8_t>(i), static_cast<std::uint8_t>(i >> 8)};
                if (round == 0 && !(*device)->create_segment(SegmentNo(i)).ok()) return 2;
                if (round == 0 && !(*device)->write(i * 4096ull, mark).ok()) return 3;
                Bytes found(2);
                if (!(*device)->read(i * 4096ull, found).ok()) return 4;
                if (found != mark) return 5;
            }
        return 0;
    });
    EXPECT_EQ(failed_at, 0);
}

// Readers that come in between a release and the next creation must not leave the old file's
// descriptor behind: what is written afterwards would go to a file that nobody can find.
TEST_P(SegmentOnEveryPlace, AConcurrentReaderDoesNotKeepTheOldFile) {
    std::atomic<bool> is_over = false;
    std::thread reader([&] {
        Bytes bytes(16);
        while (!is_over) base::discard(device_->read(0, bytes), "the segment comes and goes");
    });
    for (int round = 0; round < 500 && !HasFailure(); ++round) {
        EXPECT_TRUE(device_->create_segment(SegmentNo(0)).ok());
        const Bytes mark(16, static_cast<std::uint8_t>(round + 1));
        EXPECT_TRUE(device_->write(0, mark).ok());
        Bytes found(16);
        const auto fd = device_->open_segment(SegmentNo(0), Access::Read);
        EXPECT_TRUE(fd.ok());
        EXPECT_EQ(::pread(fd ? fd->get() : -1, found.data(), found.size(), 0), 16);
        EXPECT_EQ(found, mark) << "round " << round;
        EXPECT_TRUE(device_->release_segment(SegmentNo(0)).ok());
    }
    is_over = true;
    reader.join();
}

sigjmp_buf after_signal;
void jump_out(int) {
    ::siglongjmp(after_signal, 1);
}

// 0: the byte is `expected`; 1: another byte; 2: SIGBUS.
int touch(const volatile std::uint8_t* address, std::uint8_t expected) {
    struct sigaction action {
    }, before{};
    action.sa_handler = jump_out;
    ::sigaction(SIGBUS, &action, &before);
    int result = 2;
    if (sigsetjmp(after_signal, 1) == 0) result = *address == expected ? 0 : 1;
    ::sigaction(SIGBUS, &before, nullptr);
    return result;
}

// A child that keeps a mapping and a descriptor of a segment, and answers what it finds there. It
// stands for a program that does not cooperate.
class Keeper {
  public:
    enum Answer : std::uint8_t { kSame = '0', kOther = '1', kSigbus = '2' };

    Keeper(const Device& device, std::uint8_t expected) {
        int to[2], from[2];
        EXPECT_EQ(::pipe2(to, O_CLOEXEC), 0);
        EXPECT_EQ(::pipe2(from, O_CLOEXEC), 0);
        const auto fd = device.open_segment(SegmentNo(0), Access::ReadWrite);
        EXPECT_TRUE(fd.ok());
        pid_ = ::fork();
        if (pid_ == 0) {
            ::close(to[1]);
            run(fd->get(), to[0], from[1], expected);
        }
        ::close(to[0]);
        ::close(from[1]);
        commands_ = UniqueFd(to[1]);
        answers_ = UniqueFd(from[0]);
    }
    ~Keeper() {
        commands_.reset();
        ::waitpid(pid_, nullptr, 0);
    }
    // 't' touches the mapping, 'w' writes through the descriptor.
    char ask(char command) {
        char answer = '?';
        EXPECT_EQ(::write(commands_.get(), &command, 1), 1);
        EXPECT_EQ(::read(answers_.get(), &answer, 1), 1);
        return answer;
    }

  private:
    [[noreturn]] static void run(int fd, int commands, int answers, std::uint8_t expected) {
        auto* address = static_cast<std::uint8_t*>(
            ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        if (address == MAP_FAILED) ::_exit(1);
        char command = 0;
        while (::read(commands, &command, 1) == 1) {
            char answer = '?';
            if (command == 't') answer = static_cast<char>('0' + touch(address, expected));
            if (command == 'w') answer = ::pwrite(fd, "INTRUDER", 8, 0) == 8 ? 'y' : 'n';
            if (::write(answers, &answer, 1) != 1) break;
        }
        ::_exit(0);
    }
    pid_t pid_ = -1;
    UniqueFd commands_;
    UniqueFd answers_;
};

TEST_P(SegmentOnEveryPlace, AReleasedSegmentIsGoneFromWhoeverMapsIt) {
    create({0});
    ASSERT_OK(device_->write(0, Bytes(4096, 0x5a)));
    Keeper keeper(*device_, 0x5a);
    EXPECT_EQ(keeper.ask('t'), Keeper::kSame);
    ASSERT_OK(device_->release_segment(SegmentNo(0)));
    EXPECT_EQ(keeper.ask('t'), Keeper::kSigbus);
    EXPECT_FALSE(device_->has_segment(SegmentNo(0)));
}

std::size_t count_files(const std::string& directory) {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

// One whom no table of a process shows is known to a daemon that comes later, too.
TEST_P(SegmentOnEveryPlace, WhoHoldsARemovedSegmentIsCountedByTheNextDaemon) {
    ASSERT_OK(device_->write_label(testing::label_for(*device_)));
    create({0});
    ASSERT_OK(device_->write(0, Bytes(4096, 0x5a)));
    const auto files = count_files(home_->path());
    auto kept = device_->open_segment(SegmentNo(0), Access::Read);
    ASSERT_OK(kept);
    ASSERT_OK(device_->release_segment(SegmentNo(0)));
    EXPECT_EQ(device_->held_segments().count, 1u);
    EXPECT_EQ(count_files(home_->path()), files) << "it has a name still";
    const auto spec = device_->spec();
    for (int daemon = 0; daemon < 2; ++daemon) {
        device_.reset();
        auto opened = Device::open(spec);
        ASSERT_OK(opened);
        device_ = std::move(*opened);
        EXPECT_EQ(device_->held_segments().count, 1u);
        EXPECT_TRUE(device_->held_segments().is_complete);
        const auto segments = device_->list_segments();
        ASSERT_OK(segments);
        EXPECT_TRUE(segments->empty());
    }
    kept->reset();
    EXPECT_EQ(device_->held_segments().count, 0u);
    EXPECT_EQ(count_files(home_->path()), files - 1);
}

// What is written to the next file of that number does not go to the one that is gone.
TEST_P(SegmentOnEveryPlace, AFileThatSomebodyElseRemovedIsForgottenWhenItIsMadeAnew) {
    create({0});
    ASSERT_OK(device_->write(0, Bytes(4096, 0x5a)));
    fs::remove(home_->file("seg-00000"));
    ASSERT_OK(device_->create_fresh_segment(SegmentNo(0)));
    ASSERT_OK(device_->write(0, Bytes(4096, 0x77)));
    const auto fd = device_->open_segment(SegmentNo(0), Access::Read);
    ASSERT_OK(fd);
    Bytes found(4096);
    EXPECT_EQ(::pread(fd->get(), found.data(), found.size(), 0), 4096);
    EXPECT_EQ(found, Bytes(4096, 0x77));
}

TEST_P(SegmentOnEveryPlace, AFileThatSomebodyElseRemovedMakesTheCountIncomplete) {
    create({0});
    EXPECT_TRUE(device_->held_segments().is_complete);
    fs::remove(home_->file("seg-00000"));
    ASSERT_OK(device_->release_segment(SegmentNo(0)));
    EXPECT_FALSE(device_->held_segments().is_complete);
}

TEST_P(SegmentOnEveryPlace, WhatIsKeptOfAnEarlierOwnershipReachesNothingOfTheNext) {
    create({0});
    ASSERT_OK(device_->write(0, Bytes(4096, 0x5a)));
    Keeper keeper(*device_, 0x5a);
    EXPECT_EQ(keeper.ask('t'), Keeper::kSame);
    const auto before = device_->segment_identity(SegmentNo(0));
    ASSERT_OK(device_->release_segment(SegmentNo(0)));
    ASSERT_OK(device_->create_segment(SegmentNo(0)));
    const auto after = device_->segment_identity(SegmentNo(0));
    ASSERT_OK(before);
    ASSERT_OK(after);
    EXPECT_NE(*before, *after);
    ASSERT_OK(device_->write(0, Bytes(4096, 0x77)));

    EXPECT_EQ(keeper.ask('t'), Keeper::kSigbus) << "the old mapping shows the new owner's bytes";
    // The old descriptor may bring its own file back to life, but not reach this one.
    EXPECT_EQ(keeper.ask('w'), 'y');
    EXPECT_EQ(read(0, 4096), Bytes(4096, 0x77));
    EXPECT_EQ(keeper.ask('t'), Keeper::kOther) << "its own file's page, with what it wrote itself";
}

}  // namespace
}  // namespace refault::device
