// Memory that moves while the program uses it: nothing is lost, no address changes, and the pager
// needs nothing that a stopped thread could hold.
#include <filesystem>
#include <fstream>

#include "client/test_session.h"

namespace refault::client::testing {
namespace {

using base::FileRange;

class MoveTest : public SessionTest {
  protected:
    FileRange random_parts(std::mt19937_64& random) const {
        const auto first = random() % (kFileBytes / kPartBytes);
        const auto count = 1 + random() % (kFileBytes / kPartBytes - first);
        return FileRange::of_length(first * kPartBytes, count * kPartBytes);
    }
};

// Writes ascending numbers into every page, and looks at each before it overwrites it: a lost or
// stale page shows.
class Writer {
  public:
    Writer(volatile std::uint8_t* bytes, std::uint64_t length)
        : bytes_(bytes), pages_(length / base::kPageBytes) {
        thread_ = std::thread([this] { run(); });
    }
    ~Writer() { stop(); }
    void stop() {
        must_stop_ = true;
        if (thread_.joinable()) thread_.join();
    }
    std::uint64_t rounds() const { return rounds_; }
    std::uint64_t lost() const { return lost_; }

  private:
    void run() {
        std::uint64_t expected = read(0);
        for (; !must_stop_; ++rounds_, ++expected) {
            for (std::uint64_t page = 0; page < pages_; ++page) {
                lost_ += read(page) != expected ? 1 : 0;
                *word(page) = expected + 1;
            }
        }
    }
    volatile std::uint64_t* word(std::uint64_t page) const {
        return reinterpret_cast<volatile std::uint64_t*>(bytes_ + page * base::kPageBytes);
    }
    std::uint64_t read(std::uint64_t page) const { return *word(page); }

    volatile std::uint8_t* bytes_;
    const std::uint64_t pages_;
    std::atomic<bool> must_stop_ = false;
    std::atomic<std::uint64_t> rounds_ = 0, lost_ = 0;
    std::thread thread_;
};

TEST_F(MoveTest, ARunningWriterLosesNothing) {
    std::mt19937_64 random(test_seed());
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    Writer writer(bytes_of(mapping), kFileBytes);
    for (int i = 0; i < 100; ++i) {
        daemon_->move(kPath, random_parts(random));
        const auto seen = writer.rounds();
        wait_until("the writer to go on", [&] { return writer.rounds() > seen + 1; });
    }
    writer.stop();
    EXPECT_EQ(writer.lost(), 0u);
    // What the program sees is what the file has, at its newest place.
    for (std::uint64_t at = 0; at < kFileBytes; at += base::kPageBytes)
        ASSERT_EQ(daemon_->read(kPath, at, 1)[0], bytes_of(mapping)[at]);
}

// Stopped by write protection or by the hole, both wait until the new place is there, and are woken
// by the pager alone: this daemon never wakes anybody.
TEST_F(MoveTest, WaitingThreadsAreWokenByThePager) {
    daemon_->write(kPath, 0, std::vector<std::uint8_t>{5});
    for (const int access : {+RF_READ, RF_READ | RF_WRITE}) {
        rf_mapping* const mapping = map(access);
        ASSERT_NE(mapping, nullptr);
        auto* const bytes = bytes_of(mapping);
        daemon_->hold_places(true);
        daemon_->start_move(kPath, {0, kFileBytes});
        std::atomic<bool> has_read = false;
        std::thread reader([&] {
            EXPECT_EQ(bytes[0], 5);
            has_read = true;
        });
        daemon_->wait_for_fault();
        EXPECT_FALSE(has_read);
        daemon_->hold_places(false);
        reader.join();
        EXPECT_EQ(rf_unmap(mapping), 0);
    }
}

TEST_F(MoveTest, EveryMappingOfAFileFollows) {
    rf_mapping* const whole = map(RF_READ | RF_WRITE);
    rf_mapping* const part = map(RF_READ, kPartBytes, 2 * kPartBytes);
    ASSERT_TRUE(whole != nullptr && part != nullptr);
    for (std::uint8_t value = 1; value < 20; ++value) {
        daemon_->move(kPath, {0, 2 * kPartBytes});
        bytes_of(whole)[kPartBytes + 9] = value;
        EXPECT_EQ(bytes_of(part)[9], value);
    }
}

// The pager places while the program unmaps, and the addresses are used again at once.
TEST_F(MoveTest, UnmappingRacesWithMoving) {
    for (std::uint64_t part = 0; part < kFileBytes / kPartBytes; ++part)
        daemon_->write(kPath, part * kPartBytes,
                       std::vector<std::uint8_t>{static_cast<std::uint8_t>(part + 1)});
    std::atomic<bool> must_stop = false;
    std::atomic<int> turns = 0;
    std::vector<std::thread> programs;
    for (int i = 0; i < 2; ++i)
        programs.emplace_back([&] {
            while (!must_stop) {
                rf_mapping* mapping = nullptr;
                ASSERT_EQ(rf_map(file_, 0, kFileBytes, RF_READ | RF_WRITE, &mapping), 0)
                    << detail_of(session_);
                for (std::uint64_t part = 0; part < kFileBytes / kPartBytes; ++part)
                    ASSERT_EQ(bytes_of(mapping)[part * kPartBytes], part + 1);
                ASSERT_EQ(rf_unmap(mapping), 0);
                ++turns;
            }
        });
    std::mt19937_64 random(test_seed());
    for (int i = 0; i < 300 || turns < 100; ++i) daemon_->move(kPath, random_parts(random));
    must_stop = true;
    for (auto& program : programs) program.join();
    EXPECT_TRUE(daemon_->mappings().empty());
}

TEST_F(MoveTest, ThePagerHasAllSignalsBlocked) {
    ASSERT_NE(map(RF_READ), nullptr);  // so it runs by now, and under its name
    bool has_found = false;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::ifstream status(task.path() / "status");
        std::string line, name, blocked;
        while (std::getline(status, line)) {
            if (line.starts_with("Name:")) name = line.substr(6);
            if (line.starts_with("SigBlk:")) blocked = line.substr(8);
        }
        if (name != "refault-pager") continue;
        has_found = true;
        // All but KILL and STOP, which cannot be, and two that the C library keeps for itself.
        EXPECT_EQ(std::stoull(blocked, nullptr, 16) | 0x0000000180040100ull, ~0ull) << blocked;
    }
    EXPECT_TRUE(has_found);
    sigset_t mine;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &mine);
    EXPECT_EQ(::sigismember(&mine, SIGTERM), 0);
}

}  // namespace
}  // namespace refault::client::testing
