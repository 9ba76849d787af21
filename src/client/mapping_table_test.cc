// The table without a pager: which places it takes, and what a refused or failed one leaves behind.
#include "client/mapping_table.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <fstream>

#include "client/test_session.h"
#include "sys/userfaultfd.h"

namespace refault::client {
namespace {

using base::Access;
using base::Code;
using testing::must;
using testing::signal_of_read;

constexpr std::uint64_t kBytes = 16 * base::kPageBytes;

class MappingTableTest : public ::testing::Test {
  protected:
    void SetUp() override {
        userfaultfd_ = std::move(must(sys::create_userfaultfd()).fd);
        must(sys::userfaultfd_handshake(userfaultfd_.get()));
        table_ = std::make_unique<MappingTable>(userfaultfd_.get());
        must(table_->prepare());
        for (auto* segment : {&first_, &second_}) {
            *segment = base::UniqueFd(::memfd_create("refault-test", MFD_CLOEXEC));
            must(sys::set_size(segment->get(), kBytes));
        }
        write(first_, 1);
        write(second_, 2);
    }
    void TearDown() override {
        if (table_) table_->remove_all();
    }

    static void write(const base::UniqueFd& segment, std::uint8_t value) {
        must(sys::write_fully(segment.get(), 0, std::vector<std::uint8_t>(kBytes, value)));
    }
    static wire::Place place_of(std::uint64_t id, std::uint64_t address,
                                std::uint64_t length = kBytes) {
        return {MappingId(id), address, length, 0, 0, Access::ReadWrite};
    }
    static volatile std::uint8_t* bytes_at(std::uint64_t address) {
        return reinterpret_cast<volatile std::uint8_t*>(static_cast<std::uintptr_t>(address));
    }
    bool is_placed(std::uint64_t address) {
        return table_->wait_until_placed(address, std::chrono::steady_clock::now()).ok();
    }

    base::UniqueFd userfaultfd_, first_, second_;
    std::unique_ptr<MappingTable> table_;
};

TEST_F(MappingTableTest, ReservedAddressesAreAlignedAndOutOfReach) {
    for (const std::uint64_t length : {kBytes, 3 * base::kHugePageBytes, base::kPageBytes}) {
        const auto address = must(table_->reserve(length, base::Access::ReadWrite));
        EXPECT_TRUE(base::is_aligned(address, base::kHugePageBytes));
        EXPECT_EQ(signal_of_read(bytes_at(address)), SIGSEGV);
        EXPECT_EQ(signal_of_read(bytes_at(address + length - 1)), SIGSEGV);
    }
    EXPECT_FALSE(table_->reserve(~std::uint64_t{0} - 4095, base::Access::ReadWrite));
    EXPECT_FALSE(table_->reserve(std::uint64_t{1} << 60, base::Access::ReadWrite));
}

TEST_F(MappingTableTest, PlacesMayComeBeforeTheIdentity) {
    const auto address = must(table_->reserve(kBytes, base::Access::ReadWrite));
    must(table_->place(place_of(7, address), first_.get()));
    EXPECT_EQ(*bytes_at(address), 1);
    EXPECT_TRUE(is_placed(address));
    must(table_->identify(address, MappingId(7)));
    EXPECT_EQ(table_->identify(address, MappingId(8)).error().code(), Code::Corrupt);
}

// A Places message can be on its way when its mapping is unmapped and the addresses are given to a
// new one.
TEST_F(MappingTableTest, PlaceOfAnEarlierMappingAtTheSameAddressesIsPassedOver) {
    const auto address = must(table_->reserve(kBytes, base::Access::ReadWrite));
    must(table_->identify(address, MappingId(7)));
    must(table_->place(place_of(7, address), first_.get()));
    table_->remove(address);
    EXPECT_EQ(signal_of_read(bytes_at(address)), SIGSEGV);

    const auto again = must(table_->reserve(kBytes, base::Access::ReadWrite));
    ASSERT_EQ(again, address) << "the kernel chose other addresses, nothing is tested";
    must(table_->place(place_of(7, address), first_.get()));
    EXPECT_FALSE(is_placed(address));
    EXPECT_EQ(signal_of_read(bytes_at(address)), SIGSEGV);
    must(table_->place(place_of(8, address), second_.get()));
    must(table_->identify(address, MappingId(8)));
    must(table_->place(place_of(7, address), first_.get()));
    EXPECT_EQ(*bytes_at(address), 2);
}

TEST_F(MappingTableTest, PlaceWhereNothingIsReservedTouchesNothing) {
    void* const own =
        ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    auto* const bytes = static_cast<volatile std::uint8_t*>(own);
    bytes[0] = 77;
    must(table_->place(place_of(1, reinterpret_cast<std::uintptr_t>(own)), first_.get()));
    EXPECT_EQ(bytes[0], 77);
    ::munmap(own, kBytes);
}

TEST_F(MappingTableTest, PlaceThatReachesOutOfItsMappingIsCorrupt) {
    const auto address = must(table_->reserve(kBytes, base::Access::ReadWrite));
    const auto beyond = place_of(1, address + base::kPageBytes);
    EXPECT_EQ(table_->place(beyond, first_.get()).error().code(), Code::Corrupt);
    EXPECT_EQ(signal_of_read(bytes_at(address + base::kPageBytes)), SIGSEGV);
}

TEST_F(MappingTableTest, IsPlacedWhenEveryPageWas) {
    const auto address = must(table_->reserve(kBytes, base::Access::ReadWrite));
    const auto half = kBytes / 2;
    must(table_->place(place_of(1, address + half, half), first_.get()));
    must(table_->place(place_of(1, address + half, half), second_.get()));
    EXPECT_FALSE(is_placed(address));
    must(table_->place(place_of(1, address, half), first_.get()));
    EXPECT_TRUE(is_placed(address));
    EXPECT_EQ(*bytes_at(address), 1);
    EXPECT_EQ(*bytes_at(address + half), 2);
    // Later places find the mapping complete.
    must(table_->place(place_of(1, address), second_.get()));
    EXPECT_EQ(*bytes_at(address), 2);
}

TEST_F(MappingTableTest, ReadOnlyPlaceCanBeReadAndNotWritten) {
    base::UniqueFd read_only(
        ::open(("/proc/self/fd/" + std::to_string(first_.get())).c_str(), O_RDONLY | O_CLOEXEC));
    const auto address = must(table_->reserve(kBytes, base::Access::ReadWrite));
    auto place = place_of(1, address);
    place.access = Access::Read;
    must(table_->place(place, read_only.get()));
    EXPECT_EQ(*bytes_at(address), 1);
    write(first_, 9);
    EXPECT_EQ(*bytes_at(address), 9);
    // What the daemon will ask for.
    EXPECT_TRUE(sys::userfaultfd_register(
        userfaultfd_.get(), AddressRange::of_length(address, kBytes), {.missing = true}));
}

TEST_F(MappingTableTest, BeyondTheEndIsSigbus) {
    for (const auto access : {Access::Read, Access::ReadWrite}) {
        const auto address = must(table_->reserve(kBytes, base::Access::ReadWrite));
        auto place = place_of(access == Access::Read ? 1 : 2, address);
        place.descriptor = wire::kNoDescriptor;
        place.kind = wire::PlaceKind::BeyondEnd;
        place.access = access;
        must(table_->place(place, -1));
        EXPECT_EQ(signal_of_read(bytes_at(address)), SIGBUS);
        EXPECT_EQ(signal_of_read(bytes_at(address + kBytes - 1)), SIGBUS);
        must(table_->place(place_of(access == Access::Read ? 1 : 2, address), first_.get()));
        EXPECT_EQ(*bytes_at(address), 1);
    }
}

std::uint64_t address_space_in_use() {
    std::uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    return pages * base::kPageBytes;
}

TEST_F(MappingTableTest, ShortageOfMemoryLeavesTheOldPlaceAndCanBeTriedAgain) {
    constexpr std::uint64_t kLarge = 64ull << 20;
    for (auto* segment : {&first_, &second_}) must(sys::set_size(segment->get(), kLarge));
    const auto address = must(table_->reserve(kLarge, base::Access::ReadWrite));
    must(table_->place(place_of(1, address, kLarge), first_.get()));

    rlimit before;
    ASSERT_EQ(::getrlimit(RLIMIT_AS, &before), 0);
    const rlimit tight{address_space_in_use() + kLarge / 2, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &tight), 0);
    auto failed = table_->place(place_of(1, address, kLarge), second_.get());
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &before), 0);

    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code(), Code::NoSpace);
    EXPECT_EQ(*bytes_at(address), 1);
    must(table_->place(place_of(1, address, kLarge), second_.get()));
    EXPECT_EQ(*bytes_at(address), 2);
}

TEST_F(MappingTableTest, WaitingEndsAtTheDeadlineOrWithTheReason) {
    const auto address = must(table_->reserve(kBytes, base::Access::ReadWrite));
    const auto soon = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
    EXPECT_EQ(table_->wait_until_placed(address, soon).error().code(), Code::TimedOut);
    EXPECT_FALSE(table_->end_reason());
    table_->end(Error(Code::Gone, "first"));
    table_->end(Error(Code::Gone, "second"));
    const auto later = std::chrono::steady_clock::now() + testing::kPatience;
    EXPECT_EQ(table_->wait_until_placed(address, later).error().message(), "first");
    EXPECT_EQ(table_->end_reason()->message(), "first");
}

std::atomic<int> g_signals = 0;

// The program's handlers are held back only for a moment.
TEST_F(MappingTableTest, SignalsAreHandledWhileWaiting) {
    const auto address = must(table_->reserve(kBytes, base::Access::ReadWrite));
    struct sigaction before, action{};
    action.sa_handler = [](int) { ++g_signals; };
    ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
    std::thread waiter([&] {
        must(table_->wait_until_placed(address,
                                       std::chrono::steady_clock::now() + testing::kPatience));
    });
    ASSERT_EQ(::pthread_kill(waiter.native_handle(), SIGUSR1), 0);
    testing::wait_until("the handler to run", [] { return g_signals == 1; });
    must(table_->place(place_of(1, address), first_.get()));
    waiter.join();
    ASSERT_EQ(::sigaction(SIGUSR1, &before, nullptr), 0);
}

}  // namespace
}  // namespace refault::client
