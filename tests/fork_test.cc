// Children of programs that map the pool: by the program's choice they have nothing of it, or what
// their parent has, registered as their own, so that no fence has a hole.
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <set>
#include <thread>

#include "tests/loss_support.h"
#include "tests/mapper_process.h"
#include "tests/mount_support.h"

namespace refault::tests {
namespace {

using Access = Mapper::Access;

// Steps that parent and child take in turns.
class Steps {
  public:
    Steps()
        : done_(static_cast<std::atomic<int>*>(
              ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
    ~Steps() { ::munmap(done_, kPage); }
    void say(int step) { done_->store(step); }
    bool wait_for(int step) {
        return eventually([&] { return done_->load() >= step; });
    }

  private:
    std::atomic<int>* done_;
};

class ForkedClient : public ::testing::Test {
  protected:
    void SetUp() override { make_file(pool_, "/one", 2); }
    // By the control API: the pid of each mapping.
    std::set<int> mapped_by() {
        std::set<int> pids;
        const auto maps = pool_.get("/v1/maps");
        for (const auto& mapping : maps["mappings"]) pids.insert(mapping.value("pid", 0));
        return pids;
    }
    // Waits for its end; the indicator of the device.
    std::string pull(const std::string& device) {
        pool_.pull({device});
        std::string phase;
        EXPECT_TRUE(eventually([&] {
            phase = pool_.get("/v1/removals/" + device).value("phase", "");
            return phase == "unproven" || phase == "safe" || phase == "failed";
        }));
        return phase;
    }
    Pool pool_{{"a=ram:64M", "b=ram:64M", "c=ram:64M", "d=ram:64M"}};
};

TEST_F(ForkedClient, AChildThatAsksHasMappingsOfItsOwn) {
    NEEDS_PROOF();
    MappedFile file(pool_, "/one");
    auto* const bytes = file.bytes();
    ASSERT_NE(bytes, nullptr);
    bytes[0] = 1;
    Steps steps;
    Child child([&] {
        char detail[500] = "";
        if (rf_after_fork(file.session(), detail, sizeof detail) != 0) {
            std::fprintf(stderr, "%s\n", detail);
            return 1;
        }
        if (file.bytes() != bytes || bytes[0] != 1) return 2;
        bytes[kPage] = 2;
        if (rf_persist(file.mapping(), rf_address(file.mapping()), kFileBytes) != 0) return 3;
        steps.say(1);
        // While devices go, and after they have gone.
        while (!steps.wait_for(2)) return 4;
        if (bytes[0] != 1 || bytes[kPage] != 2 || bytes[2 * kPage] != 3) return 5;
        bytes[3 * kPage] = 4;
        steps.say(3);
        if (!steps.wait_for(4)) return 6;
        rf_disconnect(file.session());
        return 0;
    });
    ASSERT_TRUE(steps.wait_for(1));
    EXPECT_EQ(bytes[kPage], 2);
    EXPECT_EQ(mapped_by(), (std::set<int>{::getpid(), child.pid()}));
    bytes[2 * kPage] = 3;
    // What holds the file goes; "safe" takes both processes' page tables.
    for (int i = 0; i < 2; ++i) EXPECT_EQ(pull(place_of(pool_, "/one", 0).device), "safe");
    steps.say(2);
    ASSERT_TRUE(steps.wait_for(3));
    EXPECT_EQ(bytes[3 * kPage], 4);
    steps.say(4);
    EXPECT_EQ(child.wait(), 0);
    EXPECT_TRUE(eventually([&] { return mapped_by() == std::set<int>{::getpid()}; }));
    bytes[0] = 5;
    pool_.expect_sound();
}

TEST_F(ForkedClient, AChildThatDoesNotAskHasNone) {
    MappedFile file(pool_, "/one");
    ASSERT_NE(file.bytes(), nullptr);
    file.bytes()[0] = 1;
    Child child([&] {
        ::signal(SIGSEGV, SIG_DFL);
        return int{file.bytes()[0]};
    });
    EXPECT_EQ(child.wait(), 1000 + SIGSEGV);
    EXPECT_EQ(mapped_by(), std::set<int>{::getpid()});
}

TEST_F(ForkedClient, WhatIsInTheWayIsNotReplaced) {
    MappedFile file(pool_, "/one");
    auto* const bytes = file.bytes();
    ASSERT_NE(bytes, nullptr);
    Child child([&] {
        void* const own = ::mmap(rf_address(file.mapping()), kPage, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (own == MAP_FAILED) return 1;
        bytes[0] = 7;
        char detail[500] = "";
        if (rf_after_fork(file.session(), detail, sizeof detail) != -EEXIST) return 2;
        if (std::strstr(detail, "before anything else") == nullptr) return 3;
        if (bytes[0] != 7) return 4;
        ::munmap(own, kPage);
        return rf_after_fork(file.session(), nullptr, 0) == 0 && bytes[0] == 0 ? 0 : 5;
    });
    EXPECT_EQ(child.wait(), 0);
    EXPECT_EQ(rf_after_fork(file.session(), nullptr, 0), -EINVAL);
}

// A child comes back to the next daemon like any other, and so do its parent, and a child's child.
TEST_F(ForkedClient, ChildrenOfChildrenAreFencedAndComeBack) {
    NEEDS_PROOF();
    Mapper one(pool_, "/one", Access::Write);
    ASSERT_EQ(one.store(0, 1, kFileBytes), "ok");
    for (int generation = 0; generation < 2; ++generation) {
        ASSERT_EQ(one.say("become-child"), "ok");
        EXPECT_EQ(one.load(0, kFileBytes), "ok 1");
    }
    EXPECT_EQ(mapped_by().size(), 3u);
    const auto before = pool_.post("/v1/upgrade", Json::object()).value("upgrades", 0u);
    EXPECT_TRUE(eventually([&] {
        const auto status = pool_.control().get("/v1/status");
        return status && (*status)["upgrades"].value("count", 0u) == before + 1;
    }));
    EXPECT_TRUE(eventually([&] { return mapped_by().size() == 3u; }));
    ASSERT_EQ(one.store(kPage, 2), "ok");
    pull(place_of(pool_, "/one", kPage).device);
    EXPECT_EQ(one.load(kPage), "ok 2");
    ASSERT_EQ(one.persist(0, kFileBytes), "ok");
    pool_.expect_sound();
}

// Whatever other threads are doing at that moment.
TEST_F(ForkedClient, AtAnyMoment) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "the heap of a sanitizer may be locked in the child of a process with threads";
#endif
    MappedFile file(pool_, "/one");
    auto* const bytes = file.bytes();
    ASSERT_NE(bytes, nullptr);
    bytes[0] = 1;
    std::atomic<bool> must_stop{false};
    std::thread mapper([&] {
        while (!must_stop) {
            rf_file* other = nullptr;
            rf_mapping* mapping = nullptr;
            EXPECT_EQ(rf_open(file.session(), "/one", RF_READ, &other), 0);
            EXPECT_EQ(rf_map(other, 0, kPage, RF_READ, &mapping), 0);
            EXPECT_EQ(rf_close(other), 0);
            EXPECT_EQ(rf_unmap(mapping), 0);
        }
    });
    for (int i = 0; i < 20; ++i) {
        Child child([&] {
            if (rf_after_fork(file.session(), nullptr, 0) != 0) return 1;
            if (bytes[0] != 1) return 2;
            bytes[kPage] = 2;
            return rf_persist(file.mapping(), rf_address(file.mapping()), kFileBytes) == 0 ? 0 : 3;
        });
        EXPECT_EQ(child.wait(), 0) << i;
    }
    must_stop = true;
    mapper.join();
    EXPECT_EQ(bytes[kPage], 2);
    pool_.expect_sound();
}

}  // namespace
}  // namespace refault::tests
