// A directory of very many names: every name is listed exactly once, however the directory changes
// meanwhile, and each is found, and goes.
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <iostream>
#include <map>
#include <random>

#include "tests/mount_support.h"

namespace refault::tests {
namespace {

using std::chrono::steady_clock;

// REFAULT_NAMES=1000000 takes some minutes.
std::size_t name_count() {
    const char* given = std::getenv("REFAULT_NAMES");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : 30'000;
}

class MountNames : public ::testing::Test {
  protected:
    void SetUp() override {
        NEEDS_FUSE();
        ASSERT_EQ(::mkdir(directory_.c_str(), 0755), 0);
    }
    std::string at(const std::string& name) const { return directory_ + "/" + name; }
    void took(const char* what) {
        const auto now = steady_clock::now();
        std::cout << what << ": " << std::chrono::duration<double, std::milli>(now - since_).count()
                  << " ms\n";
        since_ = now;
    }

    Pool pool_{std::vector<std::string>{"a=ram:512M", "b=ram:512M"}};
    Mounted mount_{pool_};
    const std::string directory_ = mount_ / "d";
    steady_clock::time_point since_ = steady_clock::now();
};

// Long enough that the kernel asks for a listing in many parts.
std::string stable(std::size_t i) {
    return "a name that stays all the time, number " + std::to_string(i);
}

bool make(const std::string& path) {
    return ::mknod(path.c_str(), S_IFREG | 0600, 0) == 0;
}

// How often each name is listed. With `pause` called between two calls of getdents.
std::map<std::string, unsigned> list(const std::string& directory,
                                     const std::function<void()>& pause) {
    struct Entry {
        std::uint64_t inode;
        std::int64_t offset;
        unsigned short length;
        unsigned char type;
        char name[];
    };
    std::map<std::string, unsigned> names;
    base::UniqueFd file(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    EXPECT_TRUE(file);
    std::vector<char> buffer(16 * 1024);
    for (;;) {
        const auto got = ::syscall(SYS_getdents64, file.get(), buffer.data(), buffer.size());
        EXPECT_GE(got, 0) << std::strerror(errno);
        if (got <= 0) return names;
        for (long at = 0; at < got;) {
            const auto* entry = reinterpret_cast<const Entry*>(buffer.data() + at);
            ++names[entry->name];
            at += entry->length;
        }
        pause();
    }
}

// What comes and goes has a name of its own each time, all over the directory.
class Changes {
  public:
    Changes(std::string directory, std::uint64_t seed)
        : directory_(std::move(directory)), random_(seed) {}
    ~Changes() {
        for (const auto& name : there_) ::unlink((directory_ + "/" + name).c_str());
    }
    void make_some(int count) {
        for (int i = 0; i < count; ++i) {
            // Before, between and behind the names that stay.
            const char* const begin[] = {"A", "a name that stays all the time, number 1", "z"};
            there_.push_back(begin[random_() % 3] + std::to_string(random_()) + "+" +
                             std::to_string(made_++));
            EXPECT_TRUE(make(directory_ + "/" + there_.back())) << std::strerror(errno);
        }
    }
    void remove_some(int count) {
        for (int i = 0; i < count && !there_.empty(); ++i) {
            std::swap(there_[random_() % there_.size()], there_.back());
            EXPECT_EQ(::unlink((directory_ + "/" + there_.back()).c_str()), 0);
            there_.pop_back();
        }
    }

  private:
    std::string directory_;
    std::mt19937_64 random_;
    std::vector<std::string> there_;
    std::uint64_t made_ = 0;
};

void expect_each_once(const std::map<std::string, unsigned>& names, std::size_t count) {
    std::size_t missing = 0, twice = 0;
    for (std::size_t i = 0; i < count; ++i) missing += names.contains(stable(i)) ? 0 : 1;
    for (const auto& [name, times] : names) twice += times == 1 ? 0 : 1;
    EXPECT_EQ(missing, 0u);
    EXPECT_EQ(twice, 0u);
}

TEST_F(MountNames, AreListedOnceFoundAndRemoved) {
    const auto count = name_count();
    std::mt19937_64 random(test_seed());
    for (std::size_t i = 0; i < count; ++i)
        ASSERT_TRUE(make(at(stable(i)))) << i << ": " << std::strerror(errno);
    took("made");
    Changes changes(directory_, random());
    changes.make_some(2000);
    expect_each_once(list(directory_,
                          [&] {
                              changes.make_some(3);
                              changes.remove_some(4);
                          }),
                     count);
    took("listed while the directory changed");
    expect_each_once(list(directory_, [] {}), count);
    took("listed");
    struct stat status {};
    for (int i = 0; i < 5000; ++i) {
        ASSERT_EQ(::stat(at(stable(random() % count)).c_str(), &status), 0);
        ASSERT_NE(::stat(at("none " + std::to_string(random())).c_str(), &status), 0);
    }
    took("5000 found, 5000 not");
    changes.remove_some(INT_MAX);
    since_ = steady_clock::now();
    for (std::size_t i = 0; i < count; ++i)
        ASSERT_EQ(::unlink(at(stable(i)).c_str()), 0) << i << ": " << std::strerror(errno);
    took("removed");
    EXPECT_EQ(list(directory_, [] {}).size(), 2u) << ". and ..";
    EXPECT_EQ(::rmdir(directory_.c_str()), 0);
    pool_.expect_sound();
}

// Several who list at once, in step: each begins when others are in the middle, and the directory
// changes all the time.
TEST_F(MountNames, AreListedOnceBySeveralAtATime) {
    constexpr std::size_t kNames = 3000;
    std::mt19937_64 random(test_seed());
    for (std::size_t i = 0; i < kNames; ++i) ASSERT_TRUE(make(at(stable(i))));
    Changes changes(directory_, random());
    changes.make_some(500);
    const std::function<void(int)> list_nested = [&](int depth) {
        int calls = 0;
        const auto names = list(directory_, [&] {
            if (++calls % 3 != 0) return;
            changes.make_some(2);
            changes.remove_some(3);
            if (calls == 9 && depth > 0) list_nested(depth - 1);
        });
        SCOPED_TRACE(depth);
        expect_each_once(names, kNames);
    };
    list_nested(4);
    // And by other processes, at any time.
    const auto count_them = [&] {
        std::size_t wrong = 0;
        for (int round = 0; round < 5; ++round) {
            const auto names = list(directory_, [] {});
            for (std::size_t i = 0; i < kNames; ++i) {
                const auto found = names.find(stable(i));
                wrong += found == names.end() || found->second != 1 ? 1 : 0;
            }
        }
        return wrong == 0 ? 0 : 1;
    };
    Child one(count_them), other(count_them);
    int one_status = -1, other_status = -1;
    while (one_status == -1 || other_status == -1) {
        changes.make_some(2);
        changes.remove_some(2);
        one_status = one.wait(std::chrono::milliseconds(0));
        other_status = other.wait(std::chrono::milliseconds(0));
    }
    EXPECT_EQ(one_status, 0);
    EXPECT_EQ(other_status, 0);
}

}  // namespace
}  // namespace refault::tests
