// Requests that meet a file whose layout is locked for long, as by a move that does not end: each
// has a limit, names need no lock at all, and whoever uses other files is not held up.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <new>

#include "tests/mount_support.h"

namespace refault::tests {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr auto kMargin = std::chrono::seconds(5);
constexpr int kWaiting = 40;

// A pool with files on one device; from hold() to let_go() the move that pulls it holds their
// locks.
class MountPatience : public ::testing::Test {
  protected:
    void SetUp() override { NEEDS_FUSE(); }

    void start(int patience_ms) {
        pool_ = std::make_unique<Pool>(std::vector<std::string>{"a=ram:64M"},
                                       std::vector<std::string>{"--fault-points"});
        for (const auto* path : {"/held", "/gone", "/replaced", "/unlinked"}) {
            make_file(*pool_, path, 1);
            put_bytes(*pool_, path, std::string(kFileBytes, 7));
        }
        for (int i = 0; i < kWaiting; ++i) {
            const auto path = "/many" + std::to_string(i);
            pool_->post("/v1/files/create", {{"path", path}});
            put_bytes(*pool_, path, std::string(kPage, 7));
        }
        pool_->post("/v1/devices", {{"spec", "b=ram:64M"}});
        mount_ = std::make_unique<Mounted>(*pool_, "patience_ms=" + std::to_string(patience_ms));
    }
    void hold() {
        pool_->post("/v1/debug/fault-points",
                    {{"name", "move-copy"}, {"times", 1}, {"action", "hold"}});
        is_held_ = true;
        pool_->pull({"a"});
        ASSERT_TRUE(eventually([&] {
            const auto answer = pool_->get("/v1/debug/fault-points");
            for (const auto& point : answer["fault_points"])
                if (point["name"] == "move-copy") return point.value("failed", 0) == 1;
            return false;
        }));
    }
    void let_go() {
        if (std::exchange(is_held_, false))
            pool_->post("/v1/debug/fault-points", {{"name", "move-copy"}, {"times", 0}});
    }
    void TearDown() override {
        if (pool_) let_go();
    }

    std::string at(const char* name) { return *mount_ / name; }
    std::uint64_t data_bytes() { return pool_->get("/v1/status").value("data_bytes", 0ull); }

    std::unique_ptr<Pool> pool_;
    std::unique_ptr<Mounted> mount_;
    bool is_held_ = false;
};

bool reads(int file, std::uint64_t offset = 0) {
    char bytes[kPage];
    return ::pread(file, bytes, sizeof bytes, static_cast<off_t>(offset)) == sizeof bytes;
}

bool writes(int file, std::uint64_t offset = 0) {
    const std::string bytes(kPage, 9);
    return ::pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
           static_cast<ssize_t>(bytes.size());
}

TEST_F(MountPatience, WhatNeedsTheBytesIsEioInTime) {
    constexpr milliseconds kPatience{300};
    start(kPatience.count());
    base::UniqueFd file(::open(at("held").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(file);
    SharedFiler mapped(at("held"));
    ASSERT_NO_FATAL_FAILURE(hold());
    const struct {
        const char* what;
        std::function<bool()> call;
        int expected;
    } calls[] = {
        {"read", [&] { return reads(file.get()); }, EIO},
        {"write", [&] { return writes(file.get()); }, EIO},
        {"append", [&] { return writes(file.get(), kFileBytes); }, EIO},
        {"cut", [&] { return ::ftruncate(file.get(), kPage) == 0; }, EIO},
        {"grow", [&] { return ::ftruncate(file.get(), 2 * kFileBytes) == 0; }, EIO},
        {"truncate", [&] { return ::truncate(at("held").c_str(), 0) == 0; }, EIO},
        {"open to truncate", [&] { return ::open(at("held").c_str(), O_WRONLY | O_TRUNC) >= 0; },
         EIO},
        {"allocate", [&] { return ::fallocate(file.get(), 0, 0, 2 * kFileBytes) == 0; }, EIO},
        {"punch",
         [&] {
             return ::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kPage) ==
                    0;
         },
         EIO},
        {"zero", [&] { return ::fallocate(file.get(), FALLOC_FL_ZERO_RANGE, 0, kPage) == 0; }, EIO},
        {"fsync", [&] { return ::fsync(file.get()) == 0; }, EIO},
        {"stat",
         [&] {
             struct stat status {};
             return ::stat(at("held").c_str(), &status) == 0;
         },
         0},
        {"chmod", [&] { return ::chmod(at("held").c_str(), 0600) == 0; }, 0},
        {"open", [&] { return ::open(at("held").c_str(), O_RDONLY) >= 0; }, 0},
        {"link", [&] { return ::link(at("held").c_str(), at("second").c_str()) == 0; }, 0},
        {"rename", [&] { return ::rename(at("second").c_str(), at("third").c_str()) == 0; }, 0},
    };
    for (const auto& one : calls) {
        const auto begin = steady_clock::now();
        EXPECT_EQ(errno_of(one.call), one.expected) << one.what;
        EXPECT_LT(steady_clock::now() - begin, kPatience + kMargin) << one.what;
    }
    EXPECT_EQ(mapped.load(0), "sigbus 0");
    // Nothing of it was done halfway, nor is done later.
    let_go();
    EXPECT_TRUE(eventually([&] { return reads(file.get()); }));
    EXPECT_EQ(mapped.load(0, kFileBytes), "ok 7");
    EXPECT_EQ(mapped.say("size"), "ok " + std::to_string(kFileBytes));
    EXPECT_EQ(errno_of([&] { return writes(file.get()) && ::fsync(file.get()) == 0; }), 0);
    pool_->expect_sound();
}

// A name goes at once; its file's bytes go when the lock is let go of, and not before.
TEST_F(MountPatience, NamesGoAtOnceAndTheSpaceLater) {
    start(20'000);
    base::UniqueFd open(::open(at("unlinked").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(open);
    ASSERT_NO_FATAL_FAILURE(hold());
    const auto begin = steady_clock::now();
    std::ofstream(at("new")) << "new";
    const auto before = data_bytes();
    EXPECT_EQ(errno_of([&] { return ::unlink(at("gone").c_str()) == 0; }), 0);
    EXPECT_EQ(errno_of([&] { return ::rename(at("new").c_str(), at("replaced").c_str()) == 0; }),
              0);
    EXPECT_EQ(errno_of([&] { return ::unlink(at("unlinked").c_str()) == 0; }), 0);
    open.reset();
    // Also where the kernel does not know the file, and by the tools.
    pool_->post("/v1/files/remove", {{"path", "/held"}});
    // The kernel forgets what nobody has open: nothing of ours is held up by that.
    EXPECT_EQ(shell(mount_->path(), "cat replaced; ls | grep -v many").out, "newreplaced\n");
    EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(15));
    EXPECT_EQ(data_bytes(), before) << "a copy of it is under way";
    let_go();
    EXPECT_TRUE(eventually([&] { return data_bytes() == (1 + kWaiting) * kPage; })) << data_bytes();
    EXPECT_EQ(shell(mount_->path(), "cat replaced; ls | grep -v many").out, "newreplaced\n");
    pool_->expect_sound();
}

// As many as like wait, programs that use other files do not notice.
TEST_F(MountPatience, ManyWhoWaitKeepNobodyElseOut) {
    start(20'000);
    ASSERT_NO_FATAL_FAILURE(hold());
    void* const shared =
        ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(shared, MAP_FAILED);
    auto* const begun = new (shared) std::atomic<int>(0);
    std::vector<std::unique_ptr<Child>> waiting;
    for (int i = 0; i < kWaiting; ++i)
        // A file each: of one, the kernel lets few ask at a time.
        waiting.push_back(std::make_unique<Child>([&, i] {
            base::UniqueFd file(::open(at(("many" + std::to_string(i)).c_str()).c_str(), O_RDWR));
            ++*begun;
            return writes(file.get()) ? 0 : 1;
        }));
    ASSERT_TRUE(eventually([&] { return *begun == kWaiting; }));
    const auto begin = steady_clock::now();
    EXPECT_EQ(
        shell(mount_->path(), "for i in $(seq 20); do echo $i >f$i; cat f$i; rm f$i; done | wc -l")
            .out,
        "20\n");
    EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(15));
    let_go();
    for (auto& one : waiting) EXPECT_EQ(one->wait(), 0);
    ::munmap(shared, kPage);
    pool_->expect_sound();
}

}  // namespace
}  // namespace refault::tests
