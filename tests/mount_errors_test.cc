// A device that fails under programs that write through the mount: where there is a copy they see
// nothing; else who has written is told, once, and nobody else is.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tests/failing_directory.h"
#include "tests/mount_support.h"

namespace refault::tests {
namespace {

class MountErrors : public ::testing::Test {
  protected:
    void SetUp() override {
        NEEDS_FUSE();
#ifdef REFAULT_SANITIZED
        GTEST_SKIP() << "a sanitizer must be loaded first";
#endif
        pool_ = std::make_unique<Pool>(
            std::vector<std::string>{"ram=ram:32M", "disk=dir:" + disk_.path() + ",size=32M"});
    }
    void mount(const std::string& options = "") {
        mount_ = std::make_unique<Mounted>(*pool_, options);
    }
    // A file of one copy, there.
    std::string make_on_device(const std::string& device) {
        for (;;) {
            const auto path = "/f" + std::to_string(made_++);
            make_file(*pool_, path, 1);
            put_bytes(*pool_, path, std::string(kFileBytes, 1));
            if (place_of(*pool_, path, 0).device == device) return path.substr(1);
        }
    }
    // From here on nothing finds another place.
    void fill_up() {
        base::UniqueFd file(
            ::open((*mount_ / "filler").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        std::uint64_t size = 0;
        for (std::uint64_t step = 8u << 20; step >= kPage;) {
            if (::fallocate(file.get(), 0, static_cast<off_t>(size), static_cast<off_t>(step)) == 0)
                size += step;
            else
                step /= 2;
        }
    }

    FailingDirectory disk_;
    std::unique_ptr<Pool> pool_;
    std::unique_ptr<Mounted> mount_;
    int made_ = 0;
};

TEST_F(MountErrors, AreNotSeenWhereThereIsACopy) {
    mount();
    make_file(*pool_, "/two", 2);
    put_bytes(*pool_, "/two", std::string(kFileBytes, 1));
    Filer filer(*mount_ / "two", "write"), direct(*mount_ / "two", "direct");
    SharedFiler mapped(*mount_ / "two");
    ASSERT_EQ(mapped.say("churn 0 64"), "ok");
    disk_.begin_to_fail();
    for (unsigned page = 64; page < kFileBytes / kPage; ++page) {
        auto& writer = page % 2 == 0 ? filer : direct;
        ASSERT_EQ(writer.pwrite(page * kPage, page % 200), "ok") << page;
        // A part of a page needs what was there.
        ASSERT_EQ(filer.pwrite(page * kPage + 100, page % 200, 200), "ok") << page;
    }
    EXPECT_EQ(filer.say("fsync"), "ok");
    EXPECT_TRUE(mapped.say("rest").starts_with("ok ")) << "a page had older bytes";
    EXPECT_EQ(mapped.say("msync"), "ok");
    for (std::uint64_t page = 64; page < kFileBytes / kPage; ++page)
        EXPECT_EQ(filer.pread(page * kPage), "ok " + std::to_string(page % 200));
    EXPECT_TRUE(pool_->get("/v1/lost")["lost"].empty());
}

TEST_F(MountErrors, AreSeenAtTheWriteWhereThereIsNone) {
    mount();
    const auto name = make_on_device("disk");
    fill_up();
    Filer filer(*mount_ / name, "write");
    disk_.begin_to_fail();
    EXPECT_EQ(filer.pwrite(kPage + 100, 2, 200), failed(EIO));
    EXPECT_EQ(filer.pwrite(9 * kPage, 2), failed(EIO));
    EXPECT_EQ(filer.pread(9 * kPage), failed(EIO)) << "what was there is gone, too";
    EXPECT_EQ(filer.say("fsync"), "ok") << "what has failed at once is not told twice";
}

// Gathered writes fail when it is too late for their writer; the error waits for everybody who had
// the file open meanwhile, and for each comes once. Also when the writer has closed it before.
TEST_F(MountErrors, OfGatheredWritesAreToldOnceToEach) {
    mount("writeback");
    const auto name = make_on_device("disk");
    fill_up();
    Filer one(*mount_ / name, "write"), other(*mount_ / name, "write");
    Filer reader(*mount_ / name, "read");
    disk_.begin_to_fail();
    {
        Filer writer(*mount_ / name, "write");
        EXPECT_EQ(writer.pwrite(9 * kPage, 2), "ok");
    }
    for (auto* filer : {&one, &other, &reader}) {
        EXPECT_EQ(filer->say("fsync"), failed(EIO));
        EXPECT_EQ(filer->say("fsync"), "ok");
    }
    EXPECT_EQ(one.pread(9 * kPage), failed(EIO));
    // And once more for what is written anew.
    EXPECT_EQ(one.pwrite(10 * kPage, 3), "ok");
    EXPECT_EQ(one.say("fsync"), failed(EIO));
    EXPECT_EQ(one.say("fsync"), "ok");
    EXPECT_EQ(other.say("fsync"), failed(EIO));
}

TEST_F(MountErrors, OfMappedStoresAreToldOnceToEach) {
    mount();
    const auto name = make_on_device("disk");
    fill_up();
    SharedFiler mapped(*mount_ / name);
    Filer other(*mount_ / name, "write");
    ASSERT_EQ(mapped.store(9 * kPage, 2), "ok");
    ASSERT_EQ(mapped.say("msync"), "ok");
    ASSERT_EQ(mapped.store(9 * kPage, 3), "ok");
    disk_.begin_to_fail();
    EXPECT_EQ(mapped.say("msync"), failed(EIO));
    EXPECT_EQ(mapped.say("msync"), "ok");
    EXPECT_EQ(mapped.say("fsync"), "ok");
    EXPECT_EQ(other.say("fsync"), failed(EIO));
    EXPECT_EQ(other.say("fsync"), "ok");
}

TEST_F(MountErrors, StayWithTheirFile) {
    mount("writeback");
    const auto on_disk = make_on_device("disk"), on_ram = make_on_device("ram");
    Filer filer(*mount_ / on_disk, "write"), other(*mount_ / on_ram, "write");
    disk_.begin_to_fail();
    EXPECT_EQ(filer.pwrite(0, 2, 16 * kPage), "ok");
    EXPECT_EQ(other.pwrite(0, 3, kFileBytes), "ok");
    EXPECT_EQ(other.say("fsync"), "ok");
    EXPECT_EQ(filer.say("fsync"), failed(EIO));
    EXPECT_EQ(other.say("fsync"), "ok");
    EXPECT_EQ(other.pread(0, kFileBytes), "ok 3");
}

// What touches bytes beside reads and writes. Each is the first request after the failure, of a
// file with a copy. The ends of a range lie within pages, which are written.
struct Change {
    const char* name;
    int (*make)(int file);
};
void PrintTo(const Change& change, std::ostream* out) {
    *out << change.name;
}

class MountErrorsFirstRequest : public MountErrors, public ::testing::WithParamInterface<Change> {};

TEST_P(MountErrorsFirstRequest, SeesNothingWhereThereIsACopy) {
    mount();
    make_file(*pool_, "/two", 2);
    put_bytes(*pool_, "/two", std::string(kFileBytes, 1));
    disk_.begin_to_fail();
    const base::UniqueFd file(::open((*mount_ / "two").c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_EQ(GetParam().make(file.get()), 0) << std::strerror(errno);
    EXPECT_TRUE(pool_->get("/v1/lost")["lost"].empty());
}

int copy_half(int file) {
    off_t from = 0, to = kFileBytes / 2;
    return ::copy_file_range(file, &from, file, &to, kFileBytes / 2, 0) == kFileBytes / 2 ? 0 : -1;
}

INSTANTIATE_TEST_SUITE_P(
    Calls, MountErrorsFirstRequest,
    ::testing::Values(
        Change{"Copy", copy_half},
        Change{"Cut", [](int file) { return ::ftruncate(file, 5 * kPage + 100); }},
        Change{"Grow", [](int file) { return ::ftruncate(file, kFileBytes + kPage + 100); }},
        Change{"Punch",
               [](int file) {
                   return ::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100,
                                      5 * kPage);
               }},
        Change{"Zero",
               [](int file) { return ::fallocate(file, FALLOC_FL_ZERO_RANGE, 100, 5 * kPage); }}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace refault::tests
