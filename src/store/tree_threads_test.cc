// Many threads at the same names: nothing is lost, nothing is left over.
#include <gtest/gtest.h>

#include <thread>

#include "store/test_tree.h"

namespace refault::store {
namespace {

using namespace testing;

constexpr int kThreads = 4;
constexpr int kSteps = 1500;

class TreeThreads : public TreeTest {
  protected:
    // One thread's life. What it may do with a name depends on the others; what it remembers is its
    // own.
    void work(std::uint64_t seed) {
        Random random(seed);
        std::vector<InodeNo> remembered;
        const auto note = [&](const Result<Attributes>& got) {
            if (got) remembered.push_back(got->inode);
        };
        const auto name = [&] { return std::string(1, static_cast<char>('a' + random.below(6))); };
        const auto place = [&] { return directories[random.below(directories.size())]; };
        for (int step = 0; step < kSteps; ++step) {
            switch (random.below(8)) {
                case 0:
                case 1:
                    note(tree().make(place(), name(), node(FileType::Regular)));
                    break;
                case 2:
                    note(tree().remember(place(), name()));
                    break;
                case 3:
                    if (!remembered.empty()) note(tree().link(remembered.back(), place(), name()));
                    break;
                case 4:
                    base::discard(tree().unlink(place(), name()), "may be gone");
                    break;
                case 5:
                    base::discard(tree().rename(place(), name(), place(), name(),
                                                static_cast<RenameMode>(random.below(3))),
                                  "may not fit");
                    break;
                case 6:
                    if (!remembered.empty()) write_to(remembered.back(), random);
                    break;
                case 7:
                    if (remembered.empty()) break;
                    tree().forget(remembered.back(), 1);
                    remembered.pop_back();
                    break;
            }
        }
        for (const auto inode : remembered) tree().forget(inode, 1);
    }
    void write_to(InodeNo inode, Random& random) {
        const auto layout = pool->lock_layout(inode);
        if (random.one_in(3)) {
            base::discard(pool->deallocate(inode, FileRange(0, UINT64_MAX)), "no file, maybe");
            return;
        }
        const std::vector<std::uint8_t> bytes(5000, 1);
        base::discard(pool->write_growing(inode, random.below(20'000), bytes), "may be full");
    }

    std::vector<InodeNo> directories;
};

TEST_F(TreeThreads, ShareNames) {
    const auto seed = test_seed();
    directories = {kRootInode, make("x", FileType::Directory), make("y", FileType::Directory)};
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < kThreads; ++i)
            threads.emplace_back([this, seed, i] { work(seed + static_cast<std::uint64_t>(i)); });
    }
    pool.expect_sound();
    for (auto at = directories.rbegin(); at != directories.rend(); ++at)
        for (const auto& name : names(*at)) {
            const auto inode = tree().lookup(*at, name)->inode;
            if (inode == directories[1] || inode == directories[2]) continue;
            ASSERT_TRUE(tree().unlink(*at, name).ok());
        }
    EXPECT_EQ(tree().usage().inodes, directories.size());
    for (const auto& usage : pool->usage()) EXPECT_EQ(usage.data_bytes, 0u);
    pool.expect_sound();
}

}  // namespace
}  // namespace refault::store
