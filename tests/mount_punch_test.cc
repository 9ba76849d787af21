// Files whose pages change their places all the time while the memory under them goes bad: a repair
// must not reach memory that has become another file's since it was found. A page that was lost is
// no finding here, one that shows something else is. REFAULT_SEED replays the choices, not the
// order in which threads run.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <random>
#include <thread>

#include "base/unique_fd.h"
#include "tests/mount_support.h"

namespace refault::tests {
namespace {

constexpr std::size_t kSlots = 256;
constexpr int kFiles = 3;
constexpr int kFailures = 120;

using Record = std::array<std::uint64_t, kPage / sizeof(std::uint64_t)>;

// Punches pages of its file and writes them anew, and looks at others, until told to end.
class Puncher {
  public:
    Puncher(const std::string& path, std::uint64_t number, std::uint64_t seed)
        : number_(number),
          random_(seed + number),
          file_(::open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600)) {}

    void run(const std::atomic<bool>& must_end) {
        while (!must_end.load() && wrong_.empty()) {
            renew(random_() % kSlots);
            look(random_() % kSlots);
        }
        for (std::size_t slot = 0; slot < kSlots; ++slot) look(slot);
    }
    const std::string& wrong() const { return wrong_; }

  private:
    static off_t offset_of(std::size_t slot) { return static_cast<off_t>(slot * kPage); }
    void fill(std::size_t slot) {
        for (std::size_t i = 0; i < page_.size(); ++i)
            page_[i] = (number_ << 48) ^ (slot << 32) ^ versions_[slot];
    }

    void renew(std::size_t slot) {
        if (random_() % 2 == 0)
            (void)::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              offset_of(slot), kPage);
        ++versions_[slot];
        fill(slot);
        is_known_[slot] =
            ::pwrite(file_.get(), page_.data(), kPage, offset_of(slot)) == ssize_t{kPage};
    }

    void look(std::size_t slot) {
        if (!is_known_[slot]) return;
        alignas(kPage) Record wanted;
        fill(slot);
        wanted = page_;
        if (::pread(file_.get(), page_.data(), kPage, offset_of(slot)) != ssize_t{kPage} ||
            page_ == wanted || !wrong_.empty())
            return;
        wrong_ = "file " + std::to_string(number_) + ", page " + std::to_string(slot) +
                 ": a word is " + std::to_string(page_[0]) + ", should be " +
                 std::to_string(wanted[0]);
    }

    const std::uint64_t number_;
    std::mt19937_64 random_;
    base::UniqueFd file_;
    alignas(kPage) Record page_;
    std::array<std::uint64_t, kSlots> versions_{};
    std::array<bool, kSlots> is_known_{};
    std::string wrong_;
};

TEST(MountPunch, ARepairReachesNoMemoryThatHasBecomeAnotherFiles) {
    NEEDS_FUSE();
    const auto seed = test_seed();
    std::mt19937_64 random(seed);
    Pool pool(kThree);
    pool.post("/v1/files/set", {{"path", "/"}, {"replicas", 2}});
    Mounted mount(pool);
    std::vector<std::unique_ptr<Puncher>> punchers;
    for (std::uint64_t i = 0; i < kFiles; ++i)
        punchers.push_back(std::make_unique<Puncher>(mount / std::to_string(i), i + 1, seed));
    std::atomic<bool> must_end{false};
    std::vector<std::thread> threads;
    for (auto& puncher : punchers)
        threads.emplace_back([&puncher, &must_end] { puncher->run(must_end); });
    for (int i = 0; i < kFailures; ++i) {
        constexpr const char* kNames[] = {"a", "b", "c"};
        // What holds nothing just now is refused.
        (void)pool.control().post(std::string("/v1/devices/") + kNames[random() % 3] + "/fail",
                                  {{"offset", random() % 3 * kFileBytes}, {"length", kFileBytes}});
    }
    must_end.store(true);
    for (auto& thread : threads) thread.join();
    for (const auto& puncher : punchers) EXPECT_EQ(puncher->wrong(), "");
    wait_for_resync(pool);
    pool.expect_sound();
}

}  // namespace
}  // namespace refault::tests
