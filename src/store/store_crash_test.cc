// A crash at any moment of a change: the pool opens, is sound, and shows the state before or after
// the change.
//
// For each step the directories are copied before and after it. What the step added to the log is
// then put onto the copy from before, whole or cut anywhere: the moment when the record is (partly)
// written and nothing after it is done.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <map>

#include "store/test_pool.h"
#include "store/tree.h"

namespace refault::store {
namespace {

using namespace testing;
namespace fs = std::filesystem;

// Everything a user sees, without times.
std::map<std::string, std::string> view_of(Store& store, const std::string& directory = "/") {
    std::map<std::string, std::string> view;
    const auto entries = store.list(directory, root());
    EXPECT_TRUE(entries.ok());
    for (const auto& entry : *entries) {
        const auto& a = entry.attributes;
        const auto path = directory + entry.name;
        std::vector<std::uint8_t> bytes(a.size_bytes);
        if (a.type == FileType::Regular) {
            const auto read = store.read(a.inode, 0, bytes);
            EXPECT_TRUE(read.ok()) << path;
        }
        view[path] = std::to_string(a.inode.raw()) + " " + std::to_string(a.mode) + " " +
                     std::to_string(a.uid) + " " + std::to_string(a.links) + " " +
                     std::string(bytes.begin(), bytes.end());
        Tree tree(store);
        if (a.type == FileType::Symlink) view[path] += *tree.target(a.inode);
        const auto names = *tree.attribute_names(a.inode);
        for (const auto& name : names)
            view[path] += " " + name + "=" + std::to_string(tree.attribute(a.inode, name)->size());
        if (a.type == FileType::Directory) view.merge(view_of(store, path + "/"));
    }
    return view;
}

std::vector<std::uint8_t> read_bytes(const fs::path& file, std::uint64_t offset,
                                     std::uint64_t length) {
    std::vector<std::uint8_t> bytes(length);
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_GE(fd, 0) << file;
    EXPECT_EQ(::pread(fd, bytes.data(), length, static_cast<off_t>(offset)),
              static_cast<ssize_t>(length));
    ::close(fd);
    return bytes;
}

void write_bytes(const fs::path& file, std::uint64_t offset, std::span<const std::uint8_t> bytes) {
    const int fd = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
    EXPECT_GE(fd, 0) << file;
    EXPECT_EQ(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)),
              static_cast<ssize_t>(bytes.size()));
    ::close(fd);
}

std::string segment_file(SegmentNo segment) {
    char name[16];
    std::snprintf(name, sizeof name, "seg-%05u", segment.raw());
    return name;
}

class Crash : public ::testing::Test {
  protected:
    static constexpr Shape kShape{64 * 1024, 16};

    void SetUp() override { pool.create(2, kShape); }

    void snapshot(const fs::path& to) {
        fs::copy(pool.directory(), to, fs::copy_options::recursive);
    }

    // Opens the directories and compares.
    void expect_one_of(const fs::path& at,
                       const std::vector<std::map<std::string, std::string>>& views,
                       const std::string& what) {
        auto opened = pool.open_at(at);
        ASSERT_TRUE(opened.ok()) << what << ": " << opened.error().message();
        for (const auto& line : (*opened)->check()) ADD_FAILURE() << what << ": " << line;
        const auto view = view_of(**opened);
        EXPECT_TRUE(std::find(views.begin(), views.end(), view) != views.end())
            << what << ": neither before nor after";
    }

    // One call of the store. Cuts the record it appended at `cuts` places.
    void step(const std::string& what, const std::function<void()>& action, bool is_cut = true) {
        TempDirectory before, after;
        const auto view_before = view_of(*pool);
        const auto log_before = pool->log_status();
        snapshot(before.path() / "d");
        action();
        const auto log_after = pool->log_status();
        const auto view_after = view_of(*pool);
        pool.expect_sound();
        snapshot(after.path() / "d");
        std::map<DeviceId, device::Label> labels;
        for (const auto id : log_after.devices) labels[id] = (*pool->device(id))->label();
        // Opening changes the directories, so a copy is opened.
        fs::copy(after.path() / "d", after.path() / "opened", fs::copy_options::recursive);
        expect_one_of(after.path() / "opened", {view_after}, what + ", after");
        ++steps;
        if (!is_cut || log_after.epoch != log_before.epoch ||
            log_after.log_bytes == log_before.log_bytes)
            return;
        const auto added = log_after.log_bytes - log_before.log_bytes;
        for (const auto cut : {std::uint64_t{0}, 1 + random.below(added), added - 1, added}) {
            TempDirectory crashed;
            const auto at = crashed.path() / "d";
            fs::copy(before.path() / "d", at, fs::copy_options::recursive);
            make_new_segments(after.path() / "d", at);
            // The copies are written one after the other: the second may have less.
            std::uint64_t length = cut;
            for (const auto& [id, label] : labels) {
                append(after.path() / "d", at, label,
                       log_before.checkpoint_bytes + log_before.log_bytes, length);
                if (random.one_in(2)) length = random.below(length + 1);
            }
            const auto name =
                what + ", cut at " + std::to_string(cut) + " of " + std::to_string(added);
            if (cut == added)
                expect_one_of(at, {view_after}, name);
            else
                expect_one_of(at, {view_before, view_after}, name);
            ++cuts;
            if (HasFailure()) return;
        }
    }

    // Segment files are made before the record, empty.
    void make_new_segments(const fs::path& after, const fs::path& at) {
        for (const auto& entry : fs::recursive_directory_iterator(after)) {
            const auto there = at / fs::relative(entry.path(), after);
            if (!entry.is_regular_file() || fs::exists(there)) continue;
            const int fd = ::open(there.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(fs::file_size(entry.path()))), 0);
            ::close(fd);
        }
    }

    // The bytes [begin, begin + length) of the log's stream.
    void append(const fs::path& after, const fs::path& at, const device::Label& label,
                std::uint64_t begin, std::uint64_t length) {
        fs::copy_file(after / label.name / "label", at / label.name / "label",
                      fs::copy_options::overwrite_existing);
        while (length > 0) {
            const auto within = begin % kShape.segment_bytes;
            const auto part = std::min(length, kShape.segment_bytes - within);
            const auto file =
                segment_file(label.metadata_segments.at(begin / kShape.segment_bytes));
            write_bytes(at / label.name / file, within,
                        read_bytes(after / label.name / file, within, part));
            begin += part;
            length -= part;
        }
    }

    // By inode numbers, with holes.
    void take_steps_of_a_mount() {
        Tree tree(*pool);
        const auto directory = pool->stat("/d", root())->inode;
        InodeNo file;
        const auto make = [&](const std::string& name, FileType type, const std::string& target) {
            const auto made = tree.make(base::kRootInode, name, {type, 0644, 1, 2, 0, target});
            ASSERT_TRUE(made.ok());
            file = made->inode;
        };
        const auto rename = [&](const std::string& from, InodeNo to, RenameMode mode) {
            ASSERT_TRUE(tree.rename(base::kRootInode, from, to, "n", mode).ok());
        };
        step("fifo", [&] { make("fifo", FileType::Fifo, ""); });
        step("symlink", [&] { make("symlink", FileType::Symlink, "d/n"); });
        step("file", [&] { make("f", FileType::Regular, ""); });
        step("link", [&] { ASSERT_TRUE(tree.link(file, directory, "n").ok()); });
        step("exchange", [&] { rename("fifo", directory, RenameMode::Exchange); });
        step("set attribute", [&] {
            ASSERT_TRUE(tree.set_attribute(file, "user.a", std::vector<std::uint8_t>(500, 1),
                                           Tree::SetMode::Create)
                            .ok());
        });
        step("remove attribute", [&] { ASSERT_TRUE(tree.remove_attribute(file, "user.a").ok()); });
        step("times", [&] {
            AttributeChange times;
            times.accessed_ns = times.modified_ns = 1;
            ASSERT_TRUE(tree.change(file, times).ok());
        });
        step("grow with a hole", [&] { ASSERT_TRUE(pool->set_size(file, 100'000).ok()); });
        step("allocate", [&] { ASSERT_TRUE(pool->allocate(file, FileRange(5000, 30'000)).ok()); });
        step("write into it", [&] {
            ASSERT_TRUE(pool->write(file, 5000, std::vector<std::uint8_t>(20'000, 7)).ok());
        });
        step("deallocate",
             [&] { ASSERT_TRUE(pool->deallocate(file, FileRange(8192, 16'384)).ok()); });
        step("unlink one name", [&] { ASSERT_TRUE(tree.unlink(base::kRootInode, "f").ok()); });
        step("unlink the other", [&] { ASSERT_TRUE(tree.unlink(base::kRootInode, "fifo").ok()); });
        step("forget", [&] { tree.forget(file, 2); });
        step("rename over", [&] { rename("symlink", directory, RenameMode::Replace); });
        step("unlink", [&] { ASSERT_TRUE(tree.unlink(directory, "n").ok()); });
    }

    Random random{test_seed()};
    TestPool pool;
    int steps = 0;
    int cuts = 0;
};

TEST_F(Crash, AtEveryAppendOfALife) {
    InodeNo file, other;
    std::vector<Move> moves;
    const auto write = [&](InodeNo inode) {
        ASSERT_TRUE(
            pool->write(inode, 0, TestPool::pattern(inode, pool->stat(inode)->size_bytes)).ok());
    };
    step("make directory", [&] { ASSERT_TRUE(pool->make_directory("/d", 0755, root()).ok()); });
    step("create", [&] { file = pool->create_file("/d/f", 0644, root())->inode; });
    step("grow into a shared segment", [&] { ASSERT_TRUE(pool->resize(file, 9000).ok()); });
    step("write", [&] { write(file); });
    step("grow into own segments", [&] { ASSERT_TRUE(pool->resize(file, 200000).ok()); });
    step("write more", [&] { write(file); });
    step("create another", [&] { other = pool->create_file("/other", 0644, root())->inode; });
    step("grow another", [&] { ASSERT_TRUE(pool->resize(other, 5000).ok()); });
    step("write another", [&] { write(other); });
    step("mode", [&] { ASSERT_TRUE(pool->set_mode("/d/f", 0600, root()).ok()); });
    step("owner", [&] { ASSERT_TRUE(pool->set_owner("/d/f", 5, 6, root()).ok()); });
    step("shrink", [&] { ASSERT_TRUE(pool->resize(file, 70000).ok()); });
    step("rename", [&] { ASSERT_TRUE(pool->rename("/d/f", "/g", root()).ok()); });
    for (const std::string name : {"a", "b"}) {
        step("reserve", [&] { moves = *pool->reserve_evacuation(pool.id(name), 1 << 20); });
        if (moves.empty()) continue;
        step("copy", [&] {
            for (const auto& move : moves) {
                ASSERT_TRUE(pool->prepare_target(move).ok());
                ASSERT_TRUE(device::copy_range(**pool->device(move.from.device),
                                               move.from.device_range(),
                                               **pool->device(move.to_device), move.to_offset)
                                .ok());
            }
        });
        step("commit", [&] { ASSERT_TRUE(pool->commit_moves(moves).ok()); });
        step("release", [&] { ASSERT_TRUE(pool->release_moved(moves).ok()); });
    }
    step("rename over", [&] { ASSERT_TRUE(pool->rename("/other", "/g", root()).ok()); });
    step("unlink while open", [&] {
        ASSERT_TRUE(pool->open_file("/g", base::Access::Read, root()).ok());
        ASSERT_TRUE(pool->unlink("/g", root()).ok());
    });
    step("last unpin", [&] { pool->unpin(other); });
    take_steps_of_a_mount();
    step("remove directory", [&] { ASSERT_TRUE(pool->remove_directory("/d", root()).ok()); });
    // Its directory is not there before, so there is nothing to go back to.
    step(
        "add a device", [&] { ASSERT_TRUE(pool.add("c", kShape).ok()); }, /*is_cut=*/false);
    step("move metadata",
         [&] { ASSERT_TRUE(pool->evacuate_metadata(pool->log_status().devices[0]).ok()); });
    EXPECT_GE(cuts, 4 * 12);
    std::cout << steps << " steps, " << cuts << " crashes" << std::endl;
}

TEST_F(Crash, RandomChanges) {
    for (int i = 0; i < 40 && !HasFailure(); ++i) {
        const auto path = "/f" + std::to_string(random.below(5));
        const auto found = pool->stat(path, root());
        if (!found) {
            step("create " + path,
                 [&] { ASSERT_TRUE(pool->create_file(path, 0644, root()).ok()); });
        } else if (random.one_in(4)) {
            step("unlink " + path, [&] { ASSERT_TRUE(pool->unlink(path, root()).ok()); });
        } else if (random.one_in(4)) {
            step("rename " + path, [&] {
                ASSERT_TRUE(
                    pool->rename(path, "/f" + std::to_string(random.below(5)), root()).ok());
            });
        } else {
            const auto size = random.below(random.one_in(2) ? 150000 : 10000);
            step("resize " + path,
                 [&] { base::discard(pool->resize(found->inode, size), "may be full"); });
            step("write " + path, [&] {
                ASSERT_TRUE(
                    pool->write(found->inode, 0,
                                std::vector<std::uint8_t>(size, static_cast<std::uint8_t>(i + 1)))
                        .ok());
            });
        }
    }
}

}  // namespace
}  // namespace refault::store
