// Inodes, names and holes by random operations against a model that keeps each inode once and each
// directory as a map; the checker runs after every step, and everything must be there again after
// closing and opening. Moves of extents go on meanwhile.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "store/test_pool.h"
#include "store/tree.h"

namespace refault::store {
namespace {

using base::kPageBytes;
using base::kRootInode;
using namespace testing;
using Content = std::vector<std::uint8_t>;

struct ModelInode {
    FileType type = FileType::Regular;
    mode_t mode = 0;
    std::uint32_t names = 0;
    std::uint64_t remembered = 0;
    Content bytes;
    std::string target;
    std::map<std::string, Content> extended;
    std::map<std::string, InodeNo> children;
    InodeNo parent;  // of a directory

    bool is_directory() const { return type == FileType::Directory; }
};

class RandomTree {
  public:
    explicit RandomTree(std::uint64_t seed) : random_(seed) {
        pool_.create(3, {64 * 1024, 32});
        auto& top = inodes_[kRootInode];
        top.type = FileType::Directory;
        top.mode = 01777;
        top.names = 1;
        top.parent = kRootInode;
    }

    void step() {
        using Step = void (RandomTree::*)();
        static constexpr Step kSteps[] = {
            &RandomTree::make,       &RandomTree::make,      &RandomTree::make,
            &RandomTree::unnamed,    &RandomTree::link,      &RandomTree::link,
            &RandomTree::unlink,     &RandomTree::unlink,    &RandomTree::remove_directory,
            &RandomTree::rename,     &RandomTree::rename,    &RandomTree::rename,
            &RandomTree::remember,   &RandomTree::forget,    &RandomTree::forget,
            &RandomTree::change,     &RandomTree::extended,  &RandomTree::set_size,
            &RandomTree::write,      &RandomTree::write,     &RandomTree::write,
            &RandomTree::deallocate, &RandomTree::allocate,  &RandomTree::reserve,
            &RandomTree::move_some,  &RandomTree::set_copies};
        (this->*kSteps[random_.below(std::size(kSteps))])();
    }

    void compare() {
        pool_.expect_sound();
        ASSERT_EQ(tree().usage().inodes, inodes_.size());
        for (const auto& [number, model] : inodes_) {
            const auto found = pool_->stat(number);
            ASSERT_TRUE(found.ok()) << number.raw();
            ASSERT_EQ(found->type, model.type);
            ASSERT_EQ(found->mode, model.mode);
            ASSERT_EQ(found->links, links(model)) << number.raw();
            ASSERT_EQ(pool_->paths_of(number).size(), model.names);
            for (const auto& path : pool_->paths_of(number)) ASSERT_EQ(at_path(path), number);
            if (model.is_directory()) compare_names(number, model);
            if (model.type == FileType::Symlink) {
                ASSERT_EQ(*tree().target(number), model.target);
            }
            if (model.type == FileType::Regular) compare_bytes(number, model);
            const auto names = *tree().attribute_names(number);
            ASSERT_EQ(names.size(), model.extended.size());
            for (const auto& name : names)
                ASSERT_EQ(*tree().attribute(number, name), model.extended.at(name));
        }
    }

    void reopen() {
        moves_.clear();
        pool_.reopen();
        // Nobody remembers anything, so what has no name is gone.
        std::erase_if(inodes_, [](const auto& entry) { return entry.second.names == 0; });
        for (auto& [number, model] : inodes_) model.remembered = 0;
        compare();
    }

    // Without names and memories all space is free again.
    void finish() {
        pool_->abort_moves(moves_);
        for (bool is_done = false; !is_done;) {
            is_done = true;
            for (auto& [number, model] : inodes_) {
                for (const auto& [name, child] : model.children) {
                    const bool is_directory = inodes_.at(child).is_directory();
                    if (is_directory && !inodes_.at(child).children.empty()) continue;
                    const auto removed = is_directory ? tree().remove_directory(number, name)
                                                      : tree().unlink(number, name);
                    ASSERT_TRUE(removed.ok()) << removed.error().message();
                    --inodes_.at(child).names;
                    model.children.erase(name);
                    is_done = false;
                    break;
                }
                if (!is_done) break;
            }
        }
        for (const auto& [number, model] : inodes_) tree().forget(number, model.remembered);
        pool_.expect_sound();
        EXPECT_EQ(tree().usage().inodes, 1u);
        for (const auto& usage : pool_->usage()) EXPECT_EQ(usage.data_bytes, 0u);
    }

  private:
    Tree tree() { return Tree(*pool_); }

    std::uint32_t links(const ModelInode& model) const {
        if (!model.is_directory()) return model.names;
        auto count = model.names > 0 ? 2u : 0u;
        for (const auto& [name, child] : model.children)
            count += inodes_.at(child).is_directory() ? 1 : 0;
        return count;
    }
    InodeNo at_path(const std::string& path) const {
        auto at = kRootInode;
        for (std::size_t begin = 1; begin < path.size();) {
            const auto end = std::min(path.find('/', begin), path.size());
            at = inodes_.at(at).children.at(path.substr(begin, end - begin));
            begin = end + 1;
        }
        return at;
    }
    void compare_names(InodeNo number, const ModelInode& model) {
        const auto names = *tree().names(number);
        ASSERT_EQ(names.size(), model.children.size());
        auto expected = model.children.begin();
        for (const auto& name : names) {
            ASSERT_EQ(name.name, expected->first);
            ASSERT_EQ(name.inode, expected->second);
            ++expected;
        }
        if (model.names > 0) {
            ASSERT_EQ(tree().lookup(number, "..")->inode, model.parent);
        }
    }
    // The bytes, and that what next_hole calls holes are zeros.
    void compare_bytes(InodeNo number, const ModelInode& model) {
        ASSERT_TRUE(pool_.content(number) == model.bytes) << "inode " << number.raw();
        std::uint64_t data = 0;
        for (std::uint64_t at = 0; at < model.bytes.size();) {
            const auto begin = pool_->next_data(number, at);
            const auto end_of_hole = begin ? *begin : model.bytes.size();
            for (auto i = at; i < end_of_hole; ++i) ASSERT_EQ(model.bytes[i], 0);
            if (!begin) break;
            at = *pool_->next_hole(number, *begin);
            ASSERT_GT(at, *begin);
            data += base::align_up(at, kPageBytes) - *begin;
        }
        ASSERT_EQ(pool_->stat(number)->allocated_bytes, data);
    }

    InodeNo some(bool (*fits)(const ModelInode&)) {
        std::vector<InodeNo> found;
        for (const auto& [number, model] : inodes_)
            if (fits(model)) found.push_back(number);
        return found.empty() ? InodeNo() : found[random_.below(found.size())];
    }
    // Removed directories too.
    InodeNo some_directory() {
        return some([](const ModelInode& m) { return m.is_directory(); });
    }
    InodeNo some_file() {
        return some([](const ModelInode& m) { return m.type == FileType::Regular; });
    }
    std::string some_name(InodeNo directory) {
        const auto& children = inodes_.at(directory).children;
        if (children.empty() || random_.one_in(3))
            return std::string(1, static_cast<char>('a' + random_.below(12)));
        return std::next(children.begin(), static_cast<long>(random_.below(children.size())))
            ->first;
    }
    InodeNo child(InodeNo directory, const std::string& name) const {
        const auto& children = inodes_.at(directory).children;
        const auto found = children.find(name);
        return found == children.end() ? InodeNo() : found->second;
    }
    void expect(const Status& done, bool fits, const char* what) {
        ASSERT_EQ(done.ok(), fits) << what << ": " << (done ? "" : done.error().message());
    }
    template <typename T>
    static Status status_of(const Result<T>& result) {
        return result ? Status() : Status(result.error());
    }
    void lose_name(InodeNo inode) {
        auto& model = inodes_.at(inode);
        if (--model.names == 0 && model.remembered == 0) inodes_.erase(inode);
    }

    void make() {
        const auto directory = some_directory();
        const auto name = some_name(directory);
        NewNode node;
        node.type = static_cast<FileType>(random_.one_in(2) ? 1 : 1 + random_.below(7));
        node.mode = static_cast<mode_t>(random_.below(01000));
        if (node.type == FileType::Symlink) node.target = std::string(1 + random_.below(50), 't');
        const auto made = tree().make(directory, name, node);
        const bool fits = inodes_.at(directory).names > 0 && child(directory, name) == InodeNo();
        expect(status_of(made), fits, "make");
        if (!made) return;
        add(made->inode, node).names = 1;
        inodes_.at(made->inode).parent = directory;
        inodes_.at(directory).children[name] = made->inode;
    }
    ModelInode& add(InodeNo inode, const NewNode& node) {
        auto& model = inodes_[inode];
        model.type = node.type;
        model.mode = node.mode;
        model.target = node.target;
        model.remembered = 1;
        return model;
    }
    void unnamed() {
        const NewNode node;
        const auto made = tree().make_unnamed(kRootInode, node);
        ASSERT_TRUE(made.ok());
        add(made->inode, node);
    }
    void link() {
        const auto inode = some([](const ModelInode&) { return true; });
        const auto directory = some_directory();
        const auto name = some_name(directory);
        const bool fits = !inodes_.at(inode).is_directory() && inodes_.at(directory).names > 0 &&
                          child(directory, name) == InodeNo();
        const auto linked = tree().link(inode, directory, name);
        expect(status_of(linked), fits, "link");
        if (!linked) return;
        auto& model = inodes_.at(inode);
        ++model.names;
        ++model.remembered;
        inodes_.at(directory).children[name] = inode;
    }
    void unlink() {
        const auto directory = some_directory();
        const auto name = some_name(directory);
        const auto inode = child(directory, name);
        const auto done = tree().unlink(directory, name);
        expect(done, inode != InodeNo() && !inodes_.at(inode).is_directory(), "unlink");
        if (!done) return;
        inodes_.at(directory).children.erase(name);
        lose_name(inode);
    }
    void remove_directory() {
        const auto directory = some_directory();
        const auto name = some_name(directory);
        const auto inode = child(directory, name);
        const auto done = tree().remove_directory(directory, name);
        expect(done,
               inode != InodeNo() && inodes_.at(inode).is_directory() &&
                   inodes_.at(inode).children.empty(),
               "remove directory");
        if (!done) return;
        inodes_.at(directory).children.erase(name);
        lose_name(inode);
    }

    bool is_within(InodeNo directory, InodeNo ancestor) const {
        for (auto at = directory;; at = inodes_.at(at).parent) {
            if (at == ancestor) return true;
            if (at == kRootInode) return false;
        }
    }
    bool may_rename(InodeNo from_directory, InodeNo from, InodeNo to_directory, InodeNo to,
                    RenameMode mode) const {
        if (from == InodeNo() || inodes_.at(to_directory).names == 0) return false;
        if (mode == RenameMode::NoReplace && to != InodeNo()) return false;
        if (mode == RenameMode::Exchange && to == InodeNo()) return false;
        if (from == to) return true;
        const bool moves_directory = inodes_.at(from).is_directory();
        if (moves_directory && is_within(to_directory, from)) return false;
        if (to == InodeNo()) return true;
        const auto& replaced = inodes_.at(to);
        if (mode == RenameMode::Exchange)
            return !replaced.is_directory() || !is_within(from_directory, to);
        return replaced.is_directory() == moves_directory && replaced.children.empty();
    }
    void rename() {
        const auto from_directory = some_directory(), to_directory = some_directory();
        const auto from_name = some_name(from_directory), to_name = some_name(to_directory);
        const auto mode = static_cast<RenameMode>(random_.below(3));
        const auto from = child(from_directory, from_name), to = child(to_directory, to_name);
        const auto done = tree().rename(from_directory, from_name, to_directory, to_name, mode);
        expect(done, may_rename(from_directory, from, to_directory, to, mode), "rename");
        if (!done || from == to) return;
        inodes_.at(to_directory).children[to_name] = from;
        if (inodes_.at(from).is_directory()) inodes_.at(from).parent = to_directory;
        if (mode == RenameMode::Exchange) {
            inodes_.at(from_directory).children[from_name] = to;
            if (inodes_.at(to).is_directory()) inodes_.at(to).parent = from_directory;
            return;
        }
        inodes_.at(from_directory).children.erase(from_name);
        if (to != InodeNo()) lose_name(to);
    }
    void remember() {
        const auto directory = some_directory();
        const auto name = some_name(directory);
        const auto found = tree().remember(directory, name);
        expect(status_of(found), child(directory, name) != InodeNo(), "remember");
        if (found) ++inodes_.at(found->inode).remembered;
    }
    void forget() {
        const auto inode = some([](const ModelInode& m) { return m.remembered > 0; });
        if (inode == InodeNo()) return;
        auto& model = inodes_.at(inode);
        const auto count = 1 + random_.below(model.remembered);
        tree().forget(inode, count);
        model.remembered -= count;
        if (model.remembered == 0 && model.names == 0) inodes_.erase(inode);
    }

    void change() {
        const auto inode = some([](const ModelInode&) { return true; });
        AttributeChange change;
        change.mode = static_cast<mode_t>(random_.below(01000));
        ASSERT_TRUE(tree().change(inode, change).ok());
        inodes_.at(inode).mode = *change.mode;
    }
    void extended() {
        const auto inode = some([](const ModelInode&) { return true; });
        auto& model = inodes_.at(inode).extended;
        const auto name = "user." + std::to_string(random_.below(3));
        if (random_.one_in(3)) {
            expect(tree().remove_attribute(inode, name), model.contains(name), "remove attribute");
            model.erase(name);
            return;
        }
        const Content value(random_.below(3000), static_cast<std::uint8_t>(random_.below(256)));
        const auto mode = static_cast<Tree::SetMode>(random_.below(3));
        const bool fits =
            mode == Tree::SetMode::Any || model.contains(name) == (mode == Tree::SetMode::Replace);
        expect(tree().set_attribute(inode, name, value, mode), fits, "set attribute");
        if (fits) model[name] = value;
    }

    void set_size() {
        const auto inode = some_file();
        if (inode == InodeNo()) return;
        auto& bytes = inodes_.at(inode).bytes;
        const auto size = random_.one_in(2) ? random_.below(bytes.size() + 1)
                                            : bytes.size() + random_.below(200'000);
        const auto layout = pool_->lock_layout(inode);
        ASSERT_TRUE(pool_->set_size(inode, size).ok());
        bytes.resize(size);
    }
    void write() {
        const auto inode = some_file();
        if (inode == InodeNo()) return;
        auto& bytes = inodes_.at(inode).bytes;
        const auto offset = random_.below(bytes.size() + 20'000);
        const Content data(1 + random_.below(30'000),
                           static_cast<std::uint8_t>(random_.below(256)));
        const auto layout = pool_->lock_layout(inode);
        const auto done = pool_->write_growing(inode, offset, data);
        if (!done) {
            ASSERT_EQ(done.error().sys_errno(), ENOSPC) << done.error().message();
            return;
        }
        bytes.resize(std::max<std::size_t>(bytes.size(), offset + data.size()));
        std::copy(data.begin(), data.end(), bytes.begin() + static_cast<long>(offset));
    }
    FileRange some_range(std::uint64_t size) {
        const auto begin = random_.below(size + 1);
        return FileRange::of_length(begin, random_.below(size - begin + 5000));
    }
    void deallocate() {
        const auto inode = some_file();
        if (inode == InodeNo()) return;
        auto& bytes = inodes_.at(inode).bytes;
        const auto range = some_range(bytes.size());
        const auto layout = pool_->lock_layout(inode);
        ASSERT_TRUE(pool_->deallocate(inode, range).ok());
        const auto end = std::min<std::uint64_t>(range.end(), bytes.size());
        if (range.begin() < end)
            std::fill(bytes.begin() + static_cast<long>(range.begin()),
                      bytes.begin() + static_cast<long>(end), std::uint8_t{0});
    }
    void allocate() {
        const auto inode = some_file();
        if (inode == InodeNo()) return;
        auto& bytes = inodes_.at(inode).bytes;
        const auto range = some_range(bytes.size());
        const auto layout = pool_->lock_layout(inode);
        const auto done = pool_->allocate(inode, range, Store::Growth::GrowSize);
        if (done) {
            bytes.resize(std::max<std::size_t>(bytes.size(), range.end()));
            return;
        }
        ASSERT_EQ(done.error().sys_errno(), ENOSPC) << done.error().message();
    }

    void reserve() {
        if (!moves_.empty()) return;
        const auto usage = pool_->usage();
        const auto moves = pool_->reserve_evacuation(usage[random_.below(usage.size())].id,
                                                     kPageBytes << random_.below(6));
        if (moves) moves_ = *moves;
    }
    void move_some() {
        std::vector<Move> some, outdated;
        for (auto left = 1 + random_.below(6); left > 0 && !moves_.empty(); --left) {
            (pool_->is_current(moves_.back()) ? some : outdated).push_back(moves_.back());
            moves_.pop_back();
        }
        pool_->abort_moves(outdated);
        const auto moved = pool_.move(some);
        ASSERT_TRUE(moved.ok()) << moved.error().message();
    }
    // Of a file with a name and without bytes: what is written from now on has copies at once.
    void set_copies() {
        const auto inode = some([](const ModelInode& m) {
            return m.type == FileType::Regular && m.names > 0 && m.bytes.empty();
        });
        if (inode == InodeNo()) return;
        const auto copies = static_cast<std::uint32_t>(1 + random_.below(2));
        ASSERT_TRUE(
            pool_->set_redundancy(pool_->path_of(inode), {copies, std::nullopt}, root()).ok());
    }

    Random random_;
    TestPool pool_;
    std::map<InodeNo, ModelInode> inodes_;
    std::vector<Move> moves_;
};

TEST(TreeRandom, BehavesLikeInodesAndMaps) {
    const auto seed = test_seed();
    for (std::uint64_t round = 0; round < 6; ++round) {
        RandomTree tree(seed + round);
        for (int step = 0; step < 400; ++step) {
            tree.step();
            if (step % 50 == 49) tree.reopen();
            tree.compare();
            if (::testing::Test::HasFailure()) FAIL() << "round " << round << ", step " << step;
        }
        tree.reopen();
        tree.finish();
        if (::testing::Test::HasFailure()) FAIL() << "round " << round;
    }
}

}  // namespace
}  // namespace refault::store
