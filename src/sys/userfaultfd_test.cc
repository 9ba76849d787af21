// What the project relies on the kernel for: stopping writers and readers of shared memory from
// another process, letting them go on, and what a replaced mapping does to a registration.
#include "sys/userfaultfd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <thread>

#include "sys/file.h"
#include "sys/socket.h"

namespace refault::sys {
namespace {

using base::kPageBytes;

constexpr std::uint64_t kBytes = 4 * kPageBytes;

struct Memory {
    UniqueFd file;
    volatile std::uint8_t* bytes = nullptr;

    Memory() : file(::memfd_create("refault-test", MFD_CLOEXEC)) {
        EXPECT_TRUE(set_size(file.get(), kBytes));
        map(nullptr);
    }
    ~Memory() { ::munmap(const_cast<std::uint8_t*>(bytes), kBytes); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    void map(void* at) {
        void* const mapped = ::mmap(at, kBytes, PROT_READ | PROT_WRITE,
                                    MAP_SHARED | (at != nullptr ? MAP_FIXED : 0), file.get(), 0);
        ASSERT_NE(mapped, MAP_FAILED);
        bytes = static_cast<volatile std::uint8_t*>(mapped);
    }
    AddressRange range() const {
        return AddressRange::of_length(reinterpret_cast<std::uintptr_t>(bytes), kBytes);
    }
};

// The next fault that a thread waits with. False after ten seconds without one.
bool wait_for_fault(int userfaultfd, uffd_msg& fault) {
    pollfd event{userfaultfd, POLLIN, 0};
    return ::poll(&event, 1, 10000) == 1 &&
           ::read(userfaultfd, &fault, sizeof fault) == sizeof fault;
}

class UserfaultfdTest : public testing::Test {
  protected:
    void SetUp() override {
        auto made = create_userfaultfd();
        if (!made) GTEST_SKIP() << made.error().message();
        fd_ = std::move(made->fd);
        ASSERT_TRUE(userfaultfd_handshake(fd_.get()));
    }

    UniqueFd fd_;
    Memory memory_;
};

TEST_F(UserfaultfdTest, HandshakeHappensOnce) {
    EXPECT_FALSE(userfaultfd_handshake(fd_.get()));
}

// A client shares the open file description, and can make it one that waits.
TEST_F(UserfaultfdTest, ReadingEventsNeverWaits) {
    ASSERT_EQ(::fcntl(fd_.get(), F_SETFL, ::fcntl(fd_.get(), F_GETFL) & ~O_NONBLOCK), 0);
    const auto events = userfaultfd_read(fd_.get());
    ASSERT_TRUE(events) << events.error().message();
    EXPECT_TRUE(events->empty());
}

// With events of its mappings that nobody reads, a process is in the middle of a change for ever.
TEST_F(UserfaultfdTest, AChangeWithoutEndIsNotWaitedFor) {
    auto other = create_userfaultfd();
    ASSERT_TRUE(other);
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_EVENT_REMOVE;
    ASSERT_EQ(::ioctl(other->fd.get(), UFFDIO_API, &api), 0);
    memory_.bytes[0] = 1;
    ASSERT_TRUE(userfaultfd_register(other->fd.get(), memory_.range(),
                                     {.missing = true, .write_protect = true}));
    std::thread changing(
        [&] { (void)::madvise(const_cast<std::uint8_t*>(memory_.bytes), kBytes, MADV_DONTNEED); });
    pollfd event{other->fd.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&event, 1, 10000), 1);
    const auto stopped = userfaultfd_write_protect(other->fd.get(), memory_.range());
    EXPECT_FALSE(stopped);
    EXPECT_TRUE(stopped || stopped.error().code() == base::Code::Busy);
    EXPECT_FALSE(userfaultfd_handshake(other->fd.get(), Handshake::MayBeMade))
        << "no daemon has asked for such events";
    uffd_msg message;
    EXPECT_EQ(::read(other->fd.get(), &message, sizeof message),
              static_cast<ssize_t>(sizeof message));
    changing.join();
}

TEST_F(UserfaultfdTest, AHandshakeOfAnEarlierDaemonIsTaken) {
    EXPECT_TRUE(userfaultfd_handshake(fd_.get(), Handshake::MayBeMade));
}

TEST_F(UserfaultfdTest, WriteProtectionStopsWritersUntilItIsLifted) {
    memory_.bytes[0] = 1;
    ASSERT_TRUE(
        userfaultfd_register(fd_.get(), memory_.range(), {.missing = true, .write_protect = true}));
    ASSERT_TRUE(userfaultfd_write_protect(fd_.get(), memory_.range()));
    EXPECT_EQ(memory_.bytes[0], 1);  // readers go on

    std::atomic<bool> has_written = false;
    std::thread writer([&] {
        memory_.bytes[0] = 2;
        has_written = true;
    });
    uffd_msg fault;
    ASSERT_TRUE(wait_for_fault(fd_.get(), fault));
    EXPECT_EQ(fault.event, UFFD_EVENT_PAGEFAULT);
    EXPECT_NE(fault.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP, 0u);
    // A wake alone makes it try again, and wait again.
    ASSERT_TRUE(userfaultfd_wake(fd_.get(), memory_.range()));
    ASSERT_TRUE(wait_for_fault(fd_.get(), fault));
    EXPECT_FALSE(has_written);
    EXPECT_EQ(memory_.bytes[0], 1);

    ASSERT_TRUE(userfaultfd_unregister(fd_.get(), memory_.range()));
    writer.join();
    EXPECT_EQ(memory_.bytes[0], 2);
}

TEST_F(UserfaultfdTest, WriteProtectionCoversPagesThatAreNotThereYet) {
    ASSERT_TRUE(
        userfaultfd_register(fd_.get(), memory_.range(), {.missing = true, .write_protect = true}));
    ASSERT_TRUE(userfaultfd_write_protect(fd_.get(), memory_.range()));
    std::thread writer([&] { memory_.bytes[kPageBytes] = 2; });
    uffd_msg fault;
    EXPECT_TRUE(wait_for_fault(fd_.get(), fault));
    ASSERT_TRUE(userfaultfd_unregister(fd_.get(), memory_.range()));
    writer.join();
}

TEST_F(UserfaultfdTest, ReaderOfAPunchedPageWaitsForANewPlaceAtItsAddress) {
    memory_.bytes[0] = 1;
    ASSERT_TRUE(
        userfaultfd_register(fd_.get(), memory_.range(), {.missing = true, .write_protect = true}));
    ASSERT_TRUE(punch_hole(memory_.file.get(), 0, kBytes));
    std::atomic<int> seen = -1;
    std::thread reader([&] { seen = memory_.bytes[0]; });
    uffd_msg fault;
    ASSERT_TRUE(wait_for_fault(fd_.get(), fault));
    EXPECT_EQ(seen, -1);

    // As the pager does it: a new place over the old addresses drops the registration, and whoever
    // waits is woken by hand.
    UniqueFd other(::memfd_create("refault-test-other", MFD_CLOEXEC));
    ASSERT_TRUE(set_size(other.get(), kBytes));
    const std::array<std::uint8_t, 1> seven{7};
    ASSERT_TRUE(write_fully(other.get(), 0, seven));
    ASSERT_NE(::mmap(const_cast<std::uint8_t*>(memory_.bytes), kBytes, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_FIXED, other.get(), 0),
              MAP_FAILED);
    ASSERT_TRUE(userfaultfd_wake(fd_.get(), memory_.range()));
    reader.join();
    EXPECT_EQ(seen, 7);
}

TEST_F(UserfaultfdTest, MapFixedDropsTheRegistration) {
    ASSERT_TRUE(
        userfaultfd_register(fd_.get(), memory_.range(), {.missing = true, .write_protect = true}));
    memory_.map(const_cast<std::uint8_t*>(memory_.bytes));
    EXPECT_FALSE(userfaultfd_write_protect(fd_.get(), memory_.range()));
    EXPECT_EQ(memory_.bytes[0], 0);  // does not wait
}

TEST_F(UserfaultfdTest, SharedMappingOfAReadOnlyDescriptorCannotBeRegisteredButAPrivateOneCan) {
    memory_.bytes[0] = 5;
    UniqueFd read_only(::open(("/proc/self/fd/" + std::to_string(memory_.file.get())).c_str(),
                              O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(read_only);
    for (const int sharing : {MAP_SHARED, MAP_PRIVATE}) {
        void* const at = ::mmap(nullptr, kBytes, PROT_READ, sharing, read_only.get(), 0);
        ASSERT_NE(at, MAP_FAILED);
        const auto range = AddressRange::of_length(reinterpret_cast<std::uintptr_t>(at), kBytes);
        EXPECT_EQ(userfaultfd_register(fd_.get(), range, {.missing = true}).ok(),
                  sharing == MAP_PRIVATE);
        EXPECT_EQ(*static_cast<volatile std::uint8_t*>(at), 5);
        ::munmap(at, kBytes);
    }
}

// The child is the client: it passes its descriptor over and writes; this process is the daemon.
TEST_F(UserfaultfdTest, AnotherProcessStopsTheWriter) {
    auto ends = seqpacket_pair();
    ASSERT_TRUE(ends);
    const pid_t child = ::fork();
    if (child == 0) {
        ends->first.reset();
        auto own = create_userfaultfd();
        if (!own) ::_exit(2);
        const auto address = memory_.range().begin();
        const auto* const raw = reinterpret_cast<const std::uint8_t*>(&address);
        const std::array descriptors{own->fd.get()};
        if (!send_message(ends->second.get(), {raw, sizeof address}, descriptors)) ::_exit(3);
        if (!receive_message(ends->second.get(), 1)) ::_exit(4);
        memory_.bytes[0] = 9;
        ::_exit(0);
    }
    ends->second.reset();
    auto hello = receive_message(ends->first.get(), sizeof(std::uint64_t));
    ASSERT_TRUE(hello) << hello.error().message();
    ASSERT_EQ(hello->descriptors.size(), 1u);
    const int theirs = hello->descriptors[0].get();
    ASSERT_TRUE(userfaultfd_handshake(theirs));
    ASSERT_TRUE(
        userfaultfd_register(theirs, memory_.range(), {.missing = true, .write_protect = true}));
    ASSERT_TRUE(userfaultfd_write_protect(theirs, memory_.range()));
    ASSERT_TRUE(send_message(ends->first.get(), std::vector<std::uint8_t>{1}));
    uffd_msg fault;
    ASSERT_TRUE(wait_for_fault(theirs, fault));
    EXPECT_EQ(memory_.bytes[0], 0);
    memory_.bytes[1] = 3;  // this process's own mapping is not protected
    ASSERT_TRUE(userfaultfd_unregister(theirs, memory_.range()));
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_EQ(memory_.bytes[0], 9);
    EXPECT_EQ(memory_.bytes[1], 3);
}

// As a container's filter does; the device node is out of an ordinary user's reach anyway.
void forbid_userfaultfd() {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{std::size(program), program};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        ::_exit(120);
}

TEST(Userfaultfd, WhereItIsNotAllowedTheReasonSaysWhatToLookAt) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(121);
        forbid_userfaultfd();
        const auto made = create_userfaultfd();
        if (made) ::_exit(1);
        const auto& text = made.error().message();
        const bool is_plain = text.find("userfaultfd is not allowed to this process") == 0 &&
                              text.find("seccomp") != text.npos;
        ::_exit(made.error().code() == base::Code::NotSupported && is_plain ? 0 : 2);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace refault::sys
