// Programs that are not where the others are: in a container, with namespaces of its own; in swap.
// They are served like any other, also over the death of the daemon.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "base/unique_fd.h"
#include "tests/daemon_death.h"
#include "tests/mapper_process.h"

namespace refault::tests {
namespace {

class Elsewhere : public DaemonDeath {};

// The child of `parent`, by the number that it has here.
pid_t child_of(pid_t parent) {
    std::ifstream children("/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent) +
                           "/children");
    pid_t child = 0;
    children >> child;
    return child;
}

TEST_F(Elsewhere, AProgramInAContainerIsFoundHeldAndComesBack) {
    NEEDS_PROOF();
    make_file(*pool_, "/one", 1);
    Talker contained({"/usr/bin/unshare", "--mount", "--pid", "--fork", "--kill-child",
                      "--mount-proc", cli::program_directory() + "/refault-mapper",
                      pool_->daemon().session_socket(), "/one", "write"});
    ASSERT_EQ(contained.greeting(), "ready");
    ASSERT_EQ(contained.say("store 0 1 " + std::to_string(kFileBytes)), "ok");
    const auto first = place_of(*pool_, "/one", 0).device;
    const auto pid = child_of(contained.pid());
    ASSERT_GT(pid, 0);
    // Stopped it is a holder, by the number that it has outside.
    ASSERT_EQ(::kill(pid, SIGSTOP), 0);
    pool_->pull({first});
    const auto amber = pool_->wait_for_phase(first, "unproven");
    ASSERT_FALSE(amber["proof"]["holders"].empty()) << amber.dump();
    EXPECT_EQ(amber["proof"]["holders"][0].value("pid", 0), pid) << amber.dump();
    ASSERT_EQ(::kill(pid, SIGCONT), 0);
    pool_->wait_for_phase(first, "safe");
    EXPECT_EQ(contained.say("load 0 " + std::to_string(kFileBytes)), "ok 1");
    pool_->daemon().kill();
    open_.clear();
    for (const char* name : {"a", "b", "c", "d"})
        if (name != first) open_.insert(open_.end(), {"--open", "dir:" + shelf_.path(name)});
    start_again();
    wait_until_back();
    const auto second = place_of(*pool_, "/one", 0).device;
    pool_->pull({second});
    pool_->wait_for_phase(second, "safe");
    EXPECT_EQ(contained.say("store 0 2 4096"), "ok");
    EXPECT_EQ(contained.say("load 0 4096"), "ok 2");
    EXPECT_EQ(contained.say("load 4096 4096"), "ok 1");
}

// Bytes of shared memory of the process that are in swap.
std::uint64_t swapped_bytes(pid_t pid) {
    std::ifstream smaps("/proc/" + std::to_string(pid) + "/smaps");
    std::uint64_t sum = 0;
    bool is_segment = false;
    for (std::string line; std::getline(smaps, line);) {
        if (line.find('-') < line.find(' ')) is_segment = line.find("/seg-") != line.npos;
        if (is_segment && line.starts_with("Swap:")) sum += std::stoull(line.substr(5)) * 1024;
    }
    return sum;
}

// A file to swap to, for as long as it lives.
class Swap {
  public:
    Swap() {
        const base::UniqueFd fd(::mkstemp(file_.data()));
        is_on_ = fd && ::posix_fallocate(fd.get(), 0, 32 << 20) == 0 &&
                 std::system(("mkswap " + file_ + " >/dev/null 2>&1").c_str()) == 0 &&
                 ::swapon(file_.c_str(), 0) == 0;
    }
    ~Swap() {
        if (is_on_) ::swapoff(file_.c_str());
        ::unlink(file_.c_str());
    }
    bool is_on() const { return is_on_; }

  private:
    std::string file_ = "/var/tmp/refault-swap-XXXXXX";  // a tmpfs takes none
    bool is_on_ = false;
};

TEST_F(Elsewhere, WhatIsInSwapMovesLikeAnythingElse) {
    NEEDS_PROOF();
    const Swap swap;
    if (!swap.is_on()) GTEST_SKIP() << "swapping to a file is not allowed here";
    make_file(*pool_, "/one", 1);
    Mapper one(*pool_, "/one", Mapper::Access::Write);
    ASSERT_EQ(one.store(0, 1, kFileBytes), "ok");
    const auto answer = one.say("address");
    ASSERT_TRUE(answer.starts_with("ok ")) << answer;
    iovec memory{reinterpret_cast<void*>(std::stoull(answer.substr(3), nullptr, 16)), kFileBytes};
    const base::UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, one.pid(), 0)));
    ASSERT_TRUE(pidfd);
    EXPECT_TRUE(eventually([&] {
        (void)::syscall(SYS_process_madvise, pidfd.get(), &memory, 1, MADV_PAGEOUT, 0);
        return swapped_bytes(one.pid()) > 0;
    }));
    const auto device = place_of(*pool_, "/one", 0).device;
    pool_->pull({device});
    pool_->wait_for_phase(device, "safe");
    EXPECT_EQ(swapped_bytes(one.pid()), 0u);
    EXPECT_EQ(one.load(0, kFileBytes), "ok 1");
    EXPECT_EQ(one.store(0, 2, kFileBytes), "ok");
    EXPECT_EQ(one.load(0, kFileBytes), "ok 2");
}

}  // namespace
}  // namespace refault::tests
