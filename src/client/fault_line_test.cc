// Questions from signal handlers, their answers, and stretches of code that fail instead of the
// process.
#include "client/fault_line.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>
#include <vector>

#include "client/guard.h"
#include "client/mirrors.h"
#include "sys/socket.h"

namespace refault::client {
namespace {

class FaultLineTest : public ::testing::Test {
  protected:
    FaultLineTest() {
        auto pair = sys::seqpacket_pair();
        ours_ = std::move(pair->first);
        daemons_ = std::move(pair->second);
        line_ = std::make_unique<FaultLine>(ours_.get());
    }
    wire::Fault receive() {
        auto message = sys::receive_message(daemons_.get(), wire::kMessageBytesMax);
        return std::get<wire::Fault>(*wire::decode_pager_message(message->bytes));
    }
    base::UniqueFd ours_, daemons_;
    std::unique_ptr<FaultLine> line_;
};

TEST_F(FaultLineTest, EveryQuestionGetsItsOwnAnswer) {
    constexpr std::uint64_t kThreads = 100;  // more than there are places for
    std::vector<std::thread> threads;
    std::atomic<int> right{0};
    for (std::uint64_t i = 0; i < kThreads; ++i)
        threads.emplace_back([&, i] {
            const auto verdict = line_->ask({0, i * 4096, false, 0});
            if (verdict && verdict->address == i * 4096) ++right;
        });
    for (std::uint64_t i = 0; i < kThreads; ++i) {
        const auto fault = receive();
        // A foreign ticket is nobody's answer.
        line_->answer({fault.ticket ^ 0x100, wire::Answer::Lost, 1, 0});
        line_->answer({fault.ticket, wire::Answer::Retry, fault.address, 4096});
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(right.load(), static_cast<int>(kThreads));
}

TEST_F(FaultLineTest, TheEndAnswersWhoWaitsAndWhoComesLater) {
    std::thread waiting([&] { EXPECT_FALSE(line_->ask({0, 4096, false, 0})); });
    (void)receive();
    line_->end();
    waiting.join();
    EXPECT_FALSE(line_->ask({0, 8192, false, 0}));
}

TEST(Guard, NestsAndIsEachThreadsOwn) {
    EXPECT_EQ(Guard::innermost(), nullptr);
    Guard outer;
    outer.enter();
    {
        Guard inner;
        inner.enter();
        EXPECT_EQ(Guard::innermost(), &inner);
        std::thread([] { EXPECT_EQ(Guard::innermost(), nullptr); }).join();
        inner.leave();
    }
    EXPECT_EQ(Guard::innermost(), &outer);
    outer.leave();
    outer.leave();
    EXPECT_EQ(Guard::innermost(), nullptr);
}

class MirrorsTest : public ::testing::Test {
  protected:
    static constexpr std::uint64_t kLength = 256 * 1024;
    MirrorsTest() {
        const auto bytes = wire::mirror_stride(kLength) * wire::kReplicasMax;
        memory_ =
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mirrors_ = std::make_unique<Mirrors>(reinterpret_cast<std::uintptr_t>(memory_), kLength);
    }
    ~MirrorsTest() override {
        ::munmap(memory_, wire::mirror_stride(kLength) * wire::kReplicasMax);
    }
    char* at(std::uint32_t replica, std::uint64_t offset) {
        return reinterpret_cast<char*>(mirrors_->region(replica) + offset);
    }
    base::AddressRange pages(std::uint32_t replica, std::uint64_t first, std::uint64_t count) {
        return base::AddressRange::of_length(mirrors_->region(replica) + first * 4096,
                                             count * 4096);
    }
    void* memory_;
    std::unique_ptr<Mirrors> mirrors_;
};

TEST_F(MirrorsTest, CopiesExactlyTheRangeToTheCopiesThatAreThere) {
    mirrors_->set_present(1, pages(1, 0, 64));
    mirrors_->set_present(2, pages(2, 1, 1));
    std::fill_n(at(0, 0), kLength, 'x');
    ASSERT_TRUE(mirrors_->persist(100, 3 * 4096));
    EXPECT_EQ(*at(1, 99), 0);
    EXPECT_EQ(*at(1, 100), 'x');
    EXPECT_EQ(*at(1, 100 + 3 * 4096 - 1), 'x');
    EXPECT_EQ(*at(1, 100 + 3 * 4096), 0);
    EXPECT_EQ(*at(2, 4095), 0);
    EXPECT_EQ(*at(2, 4096), 'x');
    EXPECT_EQ(*at(2, 2 * 4096), 0);
    EXPECT_EQ(*at(3, 4096), 0);
    mirrors_->clear_present(1, pages(1, 10, 1));
    ASSERT_TRUE(mirrors_->persist(0, kLength));
    EXPECT_EQ(*at(1, 10 * 4096), 0);
    EXPECT_EQ(*at(1, 11 * 4096), 'x');
    EXPECT_EQ(*at(1, kLength - 1), 'x');
}

TEST_F(MirrorsTest, ThreadsThatPersistTheSameBytesLeaveTheNewestOnTheCopy) {
    mirrors_->set_present(1, pages(1, 0, 64));
    auto& word = *reinterpret_cast<std::atomic<std::uint64_t>*>(at(0, 8192));
    auto& copy = *reinterpret_cast<std::atomic<std::uint64_t>*>(at(1, 8192));
    std::atomic<bool> is_behind{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            for (int round = 0; round < 20000; ++round) {
                const auto mine = word.fetch_add(1) + 1;
                (void)mirrors_->persist(8192, 64);
                // What was stored before persist must be there after it, or something newer.
                if (copy.load() < mine) is_behind.store(true);
            }
        });
    for (auto& thread : threads) thread.join();
    EXPECT_FALSE(is_behind.load());
    EXPECT_EQ(copy.load(), word.load());
}

}  // namespace
}  // namespace refault::client
