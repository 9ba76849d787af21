// The whole store by random operations against a model that is nothing but a map of paths to bytes;
// the checker runs after every step, and everything must be there again after closing and opening.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "store/test_pool.h"

namespace refault::store {
namespace {

using base::Code;
using namespace testing;
using Content = std::vector<std::uint8_t>;

struct Node {
    InodeNo inode;
    bool is_directory = false;
    Content bytes;
};

class RandomStore {
  public:
    explicit RandomStore(std::uint64_t seed) : random_(seed), ranges_(seed) {
        pool_.create(2, shape());
        nodes_["/"] = {base::kRootInode, true, {}};
    }

    void step() {
        switch (random_.below(20)) {
            case 0:
            case 1:
                make(FileType::Regular);
                break;
            case 2:
                make(FileType::Directory);
                break;
            case 3:
            case 4:
                unlink();
                break;
            case 5:
                remove_directory();
                break;
            case 6:
                rename();
                break;
            case 7:
            case 8:
            case 9:
                resize();
                break;
            case 10:
            case 11:
                write();
                break;
            case 12:
                pin();
                break;
            case 13:
                unpin();
                break;
            case 14:
                reserve();
                break;
            case 15:
            case 16:
                move_some();
                break;
            case 17:
                abort_some();
                break;
            case 18:
                if (random_.one_in(10))
                    add_device();
                else
                    toggle_leaving();
                break;
            case 19:
                if (random_.one_in(4))
                    reopen();
                else
                    metadata();
                break;
        }
    }

    void compare() {
        pool_.expect_sound();
        for (const auto& [path, node] : nodes_) {
            const auto found = pool_->stat(path, root());
            ASSERT_TRUE(found.ok()) << path;
            ASSERT_EQ(found->inode, node.inode) << path;
            ASSERT_EQ(pool_->path_of(node.inode), path);
            if (node.is_directory) {
                ASSERT_EQ(pool_->list(path, root())->size(), children(path)) << path;
            } else {
                ASSERT_EQ(pool_.content(node.inode), node.bytes) << path;
            }
        }
        for (const auto& [inode, bytes] : unlinked_) ASSERT_EQ(pool_.content(inode), bytes);
        compare_locators();
    }

    // The reverse map and the walk over all inodes give one answer, for whole devices and for any
    // part of them, also one that begins inside of a page.
    void compare_locators() {
        for (const auto& usage : pool_->usage()) {
            const auto capacity = usage.capacity_bytes;
            std::vector<DeviceRange> ranges = {{0, capacity}, {capacity / 2, UINT64_MAX}};
            for (int i = 0; i < 4; ++i) {
                const auto begin = ranges_.below(capacity);
                ranges.push_back(DeviceRange::of_length(begin, ranges_.below(capacity) >> (4 * i)));
            }
            for (const auto range : ranges) {
                const auto mapped = pool_->locate(usage.id, range);
                ASSERT_TRUE(mapped == pool_->locate_by_inodes(usage.id, range))
                    << usage.name << " " << range.begin() << " to " << range.end();
                for (const auto& hit : mapped) ++(hit.is_metadata ? metadata_hits_ : file_hits_);
            }
        }
    }
    bool has_located_both() const { return metadata_hits_ > 0 && file_hits_ > 0; }

    // Without files all space is free again.
    void finish() {
        pool_->abort_moves(moves_);
        moves_.clear();
        while (!pins_.empty()) unpin();
        for (auto at = nodes_.rbegin(); at != nodes_.rend(); ++at) {
            if (at->first == "/") continue;
            const auto removed = at->second.is_directory
                                     ? pool_->remove_directory(at->first, root())
                                     : pool_->unlink(at->first, root());
            ASSERT_TRUE(removed.ok()) << removed.error().message();
        }
        pool_.expect_sound();
        for (const auto& usage : pool_->usage()) {
            EXPECT_EQ(usage.data_bytes, 0u);
            const auto files = (*pool_->device(usage.id))->list_segments();
            EXPECT_EQ(files->size() * shape().segment_bytes, usage.metadata_bytes) << usage.name;
        }
    }

    void reopen() {
        pins_.clear();
        moves_.clear();
        unlinked_.clear();
        pool_.reopen();
        for (int i = 0; i < 2; ++i) compare();
    }

  private:
    static Shape shape() { return {64 * 1024, 24}; }

    std::size_t children(const std::string& path) const {
        const auto prefix = path == "/" ? path : path + "/";
        return static_cast<std::size_t>(
            std::count_if(nodes_.begin(), nodes_.end(), [&](const auto& entry) {
                return entry.first.size() > prefix.size() && entry.first.starts_with(prefix) &&
                       entry.first.find('/', prefix.size()) == std::string::npos;
            }));
    }
    std::string some_path(bool wants_directory, bool any = false) {
        std::vector<std::string> paths;
        for (const auto& [path, node] : nodes_)
            if (any || node.is_directory == wants_directory) paths.push_back(path);
        return paths.empty() ? "" : paths[random_.below(paths.size())];
    }
    std::string some_name() {
        const auto directory = some_path(true);
        return (directory == "/" ? "" : directory) + "/" +
               static_cast<char>('a' + random_.below(8));
    }
    // A file's content goes, or lives on with its pins.
    void lose_name(const Node& node) {
        if (pins_.contains(node.inode)) unlinked_[node.inode] = node.bytes;
    }
    // The bytes of a file by its number, named or not.
    Content* bytes_of(InodeNo inode) {
        if (const auto found = unlinked_.find(inode); found != unlinked_.end())
            return &found->second;
        for (auto& [path, node] : nodes_)
            if (node.inode == inode) return &node.bytes;
        return nullptr;
    }
    InodeNo some_file() {
        if (!unlinked_.empty() && random_.one_in(4)) return unlinked_.begin()->first;
        const auto path = some_path(false);
        return path.empty() ? InodeNo() : nodes_[path].inode;
    }

    void make(FileType type) {
        const auto path = some_name();
        if (std::count(path.begin(), path.end(), '/') > 4) return;
        // A third of the files belongs to a user of its own; the root directory is open to all.
        const auto who = path.rfind('/') == 0 && random_.one_in(3) ? user(1000) : root();
        const auto made = type == FileType::Regular ? pool_->create_file(path, 0644, who)
                                                    : pool_->make_directory(path, 0755, who);
        if (nodes_.contains(path)) {
            ASSERT_EQ(made.error().code(), Code::Exists);
            return;
        }
        ASSERT_TRUE(made.ok()) << made.error().message();
        nodes_[path] = {made->inode, type == FileType::Directory, {}};
    }
    void unlink() {
        const auto path = some_path(false, random_.one_in(5));
        if (path.empty()) return;
        const auto done = pool_->unlink(path, root());
        ASSERT_EQ(done.ok(), !nodes_[path].is_directory) << path;
        if (!done) return;
        lose_name(nodes_[path]);
        nodes_.erase(path);
    }
    void remove_directory() {
        const auto path = some_path(true);
        const auto done = pool_->remove_directory(path, root());
        ASSERT_EQ(done.ok(), path != "/" && children(path) == 0) << path;
        if (done) nodes_.erase(path);
    }
    void rename() {
        const auto from = some_path(false, true);
        const auto to = random_.one_in(2) ? some_name() : some_path(false, true);
        const auto done = pool_->rename(from, to, root());
        const bool is_there = nodes_.contains(to);
        const bool moves_directory = nodes_[from].is_directory;
        const bool fits = from != "/" && to != "/" && !to.starts_with(from + "/") &&
                          (from == to || !is_there ||
                           (nodes_[to].is_directory == moves_directory && children(to) == 0));
        ASSERT_EQ(done.ok(), fits) << from << " to " << to;
        if (!done || from == to) return;
        if (is_there && !moves_directory) lose_name(nodes_[to]);
        if (is_there) nodes_.erase(to);
        std::map<std::string, Node> moved;
        for (auto at = nodes_.begin(); at != nodes_.end();) {
            if (at->first != from && !at->first.starts_with(from + "/")) {
                ++at;
                continue;
            }
            moved[to + at->first.substr(from.size())] = at->second;
            at = nodes_.erase(at);
        }
        nodes_.merge(moved);
    }
    void resize() {
        const auto inode = some_file();
        if (inode == InodeNo()) return;
        auto& bytes = *bytes_of(inode);
        const auto size = random_.one_in(3)
                              ? random_.below(bytes.size() + 1)
                              : bytes.size() + random_.below(random_.one_in(3) ? 200000 : 15000);
        const auto layout = pool_->lock_layout(inode);
        const auto done = pool_->resize(inode, size);
        if (done) {
            bytes.resize(size);
        } else {
            ASSERT_EQ(done.error().code(), Code::NoSpace);
        }
    }
    void write() {
        const auto inode = some_file();
        if (inode == InodeNo()) return;
        auto& bytes = *bytes_of(inode);
        if (bytes.empty()) return;
        const auto offset = random_.below(bytes.size());
        Content data(1 + random_.below(30000), static_cast<std::uint8_t>(random_.below(256)));
        const auto layout = pool_->lock_layout(inode);
        const auto done = pool_->write(inode, offset, data);
        ASSERT_TRUE(done.ok());
        ASSERT_EQ(*done, std::min<std::size_t>(data.size(), bytes.size() - offset));
        std::copy_n(data.begin(), *done, bytes.begin() + static_cast<long>(offset));
    }
    void pin() {
        const auto path = some_path(false);
        if (path.empty()) return;
        const auto opened = pool_->open_file(path, base::Access::ReadWrite, root());
        ASSERT_TRUE(opened.ok());
        ++pins_[opened->inode];
    }
    void unpin() {
        if (pins_.empty()) return;
        const auto pinned = pins_.begin();
        pool_->unpin(pinned->first);
        if (--pinned->second > 0) return;
        unlinked_.erase(pinned->first);
        pins_.erase(pinned);
    }

    DeviceId some_device() {
        const auto usage = pool_->usage();
        return usage[random_.below(usage.size())].id;
    }
    void reserve() {
        if (!moves_.empty()) return;
        const auto piece = 4096ull << random_.below(6);
        const auto inode = some_file();
        const auto moves = random_.one_in(3) && inode != InodeNo()
                               ? pool_->reserve_isolation(inode, piece)
                               : pool_->reserve_evacuation(some_device(), piece);
        if (!moves) {
            ASSERT_EQ(moves.error().code(), Code::NoSpace) << moves.error().message();
            return;
        }
        moves_ = *moves;
    }
    std::vector<Move> take_some() {
        std::vector<Move> some;
        for (auto left = 1 + random_.below(6); left > 0 && !moves_.empty(); --left) {
            const auto at = random_.below(moves_.size());
            some.push_back(moves_[at]);
            moves_.erase(moves_.begin() + static_cast<long>(at));
        }
        return some;
    }
    void move_some() {
        std::vector<Move> outdated;
        auto some = take_some();
        for (auto& move : some)
            if (!pool_->is_current(move) && random_.one_in(2))
                if (const auto again = pool_->reserve_again(move)) move = *again;
        std::erase_if(some, [&](const Move& move) {
            if (pool_->is_current(move)) return false;
            outdated.push_back(move);
            return true;
        });
        pool_->abort_moves(outdated);
        const auto moved = pool_.move(some);
        ASSERT_TRUE(moved.ok()) << moved.error().message();
    }
    void abort_some() { pool_->abort_moves(take_some()); }

    void add_device() {
        if (pool_->usage().size() >= 4) return;
        ASSERT_TRUE(pool_.add("n" + std::to_string(++added_), shape()).ok());
    }
    void toggle_leaving() {
        const auto device = some_device();
        for (const auto& usage : pool_->usage())
            pool_->set_leaving(usage.id, usage.id == device && !usage.is_leaving);
    }
    void metadata() {
        if (random_.one_in(2))
            base::discard(pool_->ensure_metadata_copies(), "may find no room");
        else
            base::discard(pool_->evacuate_metadata(some_device()), "may find no room");
    }

    Random random_;
    Random ranges_;  // of its own, so that it does not change what a seed does to the store
    std::uint64_t metadata_hits_ = 0, file_hits_ = 0;
    TestPool pool_;
    std::map<std::string, Node> nodes_;
    std::map<InodeNo, Content> unlinked_;
    std::map<InodeNo, int> pins_;
    std::vector<Move> moves_;
    int added_ = 0;
};

TEST(StoreRandom, BehavesLikeAMapOfPathsToBytes) {
    const auto seed = test_seed();
    for (std::uint64_t round = 0; round < 6; ++round) {
        RandomStore store(seed + round);
        for (int step = 0; step < 400; ++step) {
            store.step();
            store.compare();
            if (::testing::Test::HasFailure()) FAIL() << "round " << round << ", step " << step;
        }
        store.reopen();
        EXPECT_TRUE(store.has_located_both());
        store.finish();
        if (::testing::Test::HasFailure()) FAIL() << "round " << round;
    }
}

}  // namespace
}  // namespace refault::store
