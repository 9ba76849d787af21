// The namespace by inode numbers: what system calls expect, with the errno of each refusal, and
// that everything is there again after opening the pool.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/test_tree.h"

namespace refault::store {
namespace {

using base::kPageBytes;
using namespace testing;
using ::testing::ElementsAre;

TEST_F(TreeTest, LooksUpNamesAndParents) {
    const auto directory = make("d", FileType::Directory);
    const auto file = make("f", FileType::Regular, directory);
    EXPECT_EQ(tree().lookup(directory, "f")->inode, file);
    EXPECT_EQ(tree().lookup(directory, "..")->inode, kRootInode);
    EXPECT_EQ(tree().lookup(directory, ".")->inode, directory);
    EXPECT_EQ(tree().lookup(kRootInode, "..")->inode, kRootInode);
    EXPECT_EQ(errno_of(tree().lookup(directory, "g")), ENOENT);
    EXPECT_EQ(errno_of(tree().lookup(file, "g")), ENOTDIR);
    EXPECT_EQ(errno_of(tree().lookup(InodeNo(99), "g")), ESTALE);
    EXPECT_EQ(errno_of(tree().lookup(directory, std::string(256, 'x'))), ENAMETOOLONG);
    EXPECT_EQ(errno_of(tree().lookup(directory, std::string(255, '\xff'))), ENOENT);
}

TEST_F(TreeTest, MakesEveryTypeAndKeepsIt) {
    const auto fifo = make("fifo", FileType::Fifo);
    const auto socket = make("socket", FileType::Socket);
    NewNode device = node(FileType::CharDevice, 0600);
    device.device = 0x0103;
    const auto null = tree().make(kRootInode, "null", device)->inode;
    const auto link = tree().make(kRootInode, "link", symlink("fifo"))->inode;
    pool.reopen();
    EXPECT_EQ(pool->stat(fifo)->type, FileType::Fifo);
    EXPECT_EQ(pool->stat(socket)->type, FileType::Socket);
    EXPECT_EQ(pool->stat(null)->device, 0x0103u);
    EXPECT_EQ(*tree().target(link), "fifo");
    EXPECT_EQ(pool->stat(link)->size_bytes, 4u);
    EXPECT_EQ(errno_of(tree().target(fifo)), EINVAL);
    EXPECT_THAT(names(), ElementsAre("fifo", "link", "null", "socket"));
    // They have no bytes.
    const auto layout = pool->lock_layout(fifo);
    EXPECT_EQ(errno_of(pool->resize(fifo, 10)), EINVAL);
    EXPECT_EQ(errno_of(pool->open_file("/fifo", base::Access::Read, root())), ENXIO);
    pool.expect_sound();
}

TEST_F(TreeTest, RefusesWhatCannotBeMade) {
    make("f");
    EXPECT_EQ(errno_of(tree().make(kRootInode, "f", node(FileType::Directory))), EEXIST);
    EXPECT_EQ(errno_of(tree().make(kRootInode, "a/b", node(FileType::Regular))), EINVAL);
    EXPECT_EQ(errno_of(tree().make(kRootInode, std::string(256, 'x'), node(FileType::Regular))),
              ENAMETOOLONG);
    EXPECT_EQ(errno_of(tree().make(kRootInode, "l", symlink(""))), ENOENT);
    EXPECT_EQ(errno_of(tree().make(kRootInode, "l", symlink(std::string(4096, 'x')))),
              ENAMETOOLONG);
    EXPECT_TRUE(tree().make(kRootInode, "l", symlink(std::string(4095, 'x'))).ok());
}

TEST_F(TreeTest, SetgidDirectoriesHandTheirGroupOn) {
    NewNode directory = node(FileType::Directory, 02775);
    directory.gid = 50;
    const auto made = tree().make(kRootInode, "d", directory)->inode;
    NewNode file{FileType::Regular, 02755, 1000, 1000, 0, {}};
    const auto inside = *tree().make(made, "f", file);
    EXPECT_EQ(inside.gid, 50u);
    EXPECT_EQ(inside.mode & 02000u, 0u) << "a program of a group that is not its maker's";
    const auto below = *tree().make(made, "e", {FileType::Directory, 0755, 1000, 1000, 0, {}});
    EXPECT_EQ(below.gid, 50u);
    EXPECT_EQ(below.mode, 02755u);
}

TEST_F(TreeTest, HardLinksAreNamesOfOneInode) {
    const auto directory = make("d", FileType::Directory);
    const auto file = make("f");
    write(file, 5000);
    EXPECT_EQ(tree().link(file, directory, "g")->links, 2u);
    EXPECT_EQ(tree().link(file, kRootInode, "h")->links, 3u);
    EXPECT_EQ(errno_of(tree().link(file, kRootInode, "h")), EEXIST);
    EXPECT_EQ(errno_of(tree().link(directory, kRootInode, "e")), EPERM);
    EXPECT_THAT(pool->paths_of(file), ElementsAre("/d/g", "/f", "/h"));
    pool.expect_sound();
    // The first name goes: another takes its place.
    ASSERT_TRUE(tree().unlink(kRootInode, "f").ok());
    EXPECT_THAT(pool->paths_of(file), ElementsAre("/d/g", "/h"));
    EXPECT_NE(pool->path_of(file), "/f");
    pool.reopen();
    EXPECT_THAT(pool->paths_of(file), ElementsAre("/d/g", "/h"));
    EXPECT_EQ(pool->stat(file)->links, 2u);
    EXPECT_EQ(pool.content(file), TestPool::pattern(file, 5000));
    ASSERT_TRUE(tree().unlink(directory, "g").ok());
    ASSERT_TRUE(tree().unlink(kRootInode, "h").ok());
    EXPECT_FALSE(exists(file));
    EXPECT_EQ(pool->paths_of(file).size(), 0u);
    pool.expect_sound();
}

TEST_F(TreeTest, LinksHaveALimit) {
    ASSERT_TRUE(pool.add("large", {1 << 20, 64}).ok());
    ASSERT_TRUE(pool.add("larger", {1 << 20, 64}).ok());
    for (const auto& name : {"a", "b"}) ASSERT_TRUE(pool->evacuate_metadata(pool.id(name)).ok());
    const auto file = make("f");
    for (int i = 1; i < 65'000; ++i)
        ASSERT_TRUE(tree().link(file, kRootInode, "l" + std::to_string(i)).ok());
    EXPECT_EQ(errno_of(tree().link(file, kRootInode, "more")), EMLINK);
}

TEST_F(TreeTest, RememberedInodesOutliveTheirNames) {
    const auto file = make("f");
    write(file, 100'000);
    const auto room = pool.room_bytes();
    ASSERT_EQ(tree().remember(kRootInode, "f")->inode, file);
    ASSERT_TRUE(tree().unlink(kRootInode, "f").ok());
    EXPECT_EQ(pool->stat(file)->links, 0u);
    EXPECT_EQ(pool.content(file), TestPool::pattern(file, 100'000));
    EXPECT_EQ(pool.room_bytes(), room);
    EXPECT_FALSE(pool->is_open(file)) << "to be remembered is not to be open";
    pool.expect_sound();
    tree().forget(file, 1);
    EXPECT_TRUE(exists(file));
    tree().forget(file, 1);
    EXPECT_FALSE(exists(file));
    EXPECT_GT(pool.room_bytes(), room);
    pool.expect_sound();
}

TEST_F(TreeTest, PinsAndMemoriesBothKeep) {
    const auto file = make("f");
    ASSERT_TRUE(tree().open(file).ok());
    EXPECT_TRUE(pool->is_open(file));
    ASSERT_TRUE(tree().unlink(kRootInode, "f").ok());
    tree().forget(file, 1);
    EXPECT_TRUE(exists(file));
    tree().close(file);
    EXPECT_FALSE(exists(file));
    EXPECT_EQ(errno_of(tree().open(file)), ESTALE);
}

TEST_F(TreeTest, ForgottenByACrash) {
    const auto file = make("f");
    const auto unnamed = tree().make_unnamed(kRootInode, node(FileType::Regular))->inode;
    const auto directory = make("d", FileType::Directory);
    ASSERT_TRUE(tree().unlink(kRootInode, "f").ok());
    ASSERT_TRUE(tree().remove_directory(kRootInode, "d").ok());
    pool.reopen();
    for (const auto inode : {file, unnamed, directory}) EXPECT_FALSE(exists(inode));
    pool.expect_sound();
}

TEST_F(TreeTest, UnnamedFilesCanGetAName) {
    const auto made = *tree().make_unnamed(kRootInode, node(FileType::Regular));
    EXPECT_EQ(made.links, 0u);
    write(made.inode, 300);
    EXPECT_EQ(names().size(), 0u);
    EXPECT_EQ(tree().link(made.inode, kRootInode, "f")->links, 1u);
    tree().forget(made.inode, 2);
    pool.reopen();
    EXPECT_EQ(pool.content(made.inode), TestPool::pattern(made.inode, 300));
    EXPECT_EQ(errno_of(tree().make_unnamed(kRootInode, node(FileType::Directory))), EINVAL);
}

TEST_F(TreeTest, RemovedDirectoriesTakeNothing) {
    const auto directory = make("d", FileType::Directory);
    const auto file = make("f", FileType::Regular, directory);
    EXPECT_EQ(pool->stat(kRootInode)->links, 3u);
    EXPECT_EQ(errno_of(tree().remove_directory(kRootInode, "d")), ENOTEMPTY);
    EXPECT_EQ(errno_of(tree().remove_directory(directory, "f")), ENOTDIR);
    EXPECT_EQ(errno_of(tree().unlink(kRootInode, "d")), EISDIR);
    EXPECT_EQ(errno_of(tree().unlink(directory, "g")), ENOENT);
    ASSERT_TRUE(tree().rename(directory, "f", kRootInode, "f", RenameMode::Replace).ok());
    ASSERT_TRUE(tree().remove_directory(kRootInode, "d").ok());
    EXPECT_EQ(pool->stat(directory)->links, 0u);
    EXPECT_EQ(pool->stat(kRootInode)->links, 2u);
    EXPECT_EQ(errno_of(tree().make(directory, "x", node(FileType::Regular))), ENOENT);
    EXPECT_EQ(errno_of(tree().make_unnamed(directory, node(FileType::Regular))), ENOENT);
    EXPECT_EQ(errno_of(tree().link(file, directory, "x")), ENOENT);
    EXPECT_EQ(errno_of(tree().rename(kRootInode, "f", directory, "x", RenameMode::Replace)),
              ENOENT);
    EXPECT_EQ(errno_of(tree().lookup(directory, "..")), ENOENT);
    EXPECT_EQ(names(directory).size(), 0u);
    pool.expect_sound();
    tree().forget(directory, 1);
    EXPECT_FALSE(exists(directory));
}

TEST_F(TreeTest, RenameModes) {
    const auto a = make("a"), b = make("b");
    const auto d = make("d", FileType::Directory), e = make("e", FileType::Directory);
    const auto rename = [&](const std::string& from, const std::string& to, RenameMode mode) {
        return errno_of(tree().rename(kRootInode, from, kRootInode, to, mode));
    };
    EXPECT_EQ(rename("a", "b", RenameMode::NoReplace), EEXIST);
    EXPECT_EQ(rename("a", "c", RenameMode::Exchange), ENOENT);
    EXPECT_EQ(rename("c", "a", RenameMode::Replace), ENOENT);
    EXPECT_EQ(rename("a", "d", RenameMode::Replace), EISDIR);
    EXPECT_EQ(rename("d", "a", RenameMode::Replace), ENOTDIR);
    EXPECT_EQ(rename("a", "d", RenameMode::Exchange), 0);
    EXPECT_EQ(tree().lookup(kRootInode, "a")->inode, d);
    EXPECT_EQ(tree().lookup(kRootInode, "d")->inode, a);
    EXPECT_EQ(rename("a", "d", RenameMode::Exchange), 0);
    EXPECT_EQ(rename("a", "c", RenameMode::NoReplace), 0);
    EXPECT_EQ(rename("c", "b", RenameMode::Replace), 0);
    EXPECT_EQ(pool->stat(b)->links, 0u);
    EXPECT_EQ(rename("d", "e", RenameMode::Replace), 0);
    EXPECT_THAT(names(), ElementsAre("b", "e"));
    EXPECT_EQ(pool->stat(e)->links, 0u);
    EXPECT_EQ(pool->stat(kRootInode)->links, 3u);
    pool.expect_sound();
}

TEST_F(TreeTest, DirectoriesDoNotGoIntoThemselves) {
    const auto d = make("d", FileType::Directory);
    const auto e = make("e", FileType::Directory, d);
    const auto f = make("f", FileType::Directory, e);
    make("x", FileType::Directory, f);
    for (const auto mode : {RenameMode::Replace, RenameMode::NoReplace})
        EXPECT_EQ(errno_of(tree().rename(kRootInode, "d", f, "y", mode)), EINVAL);
    EXPECT_EQ(errno_of(tree().rename(kRootInode, "d", f, "x", RenameMode::Exchange)), EINVAL);
    EXPECT_EQ(errno_of(tree().rename(f, "x", kRootInode, "d", RenameMode::Exchange)), EINVAL);
    EXPECT_EQ(errno_of(tree().rename(e, "f", kRootInode, "d", RenameMode::Replace)), ENOTEMPTY);
    // Between directories the count of links goes with the directory.
    ASSERT_TRUE(tree().rename(e, "f", kRootInode, "f", RenameMode::Replace).ok());
    EXPECT_EQ(pool->stat(e)->links, 2u);
    EXPECT_EQ(pool->stat(kRootInode)->links, 4u);
    ASSERT_TRUE(tree().rename(kRootInode, "f", d, "e", RenameMode::Exchange).ok());
    EXPECT_EQ(tree().lookup(f, "..")->inode, d);
    EXPECT_EQ(tree().lookup(e, "..")->inode, kRootInode);
    pool.reopen();
    EXPECT_EQ(pool->path_of(f), "/d/e");
    pool.expect_sound();
}

TEST_F(TreeTest, TwoNamesOfOneFileStayWhenOneIsRenamedToTheOther) {
    const auto file = make("a");
    ASSERT_TRUE(tree().link(file, kRootInode, "b").ok());
    EXPECT_TRUE(tree().rename(kRootInode, "a", kRootInode, "b", RenameMode::Replace).ok());
    EXPECT_TRUE(tree().rename(kRootInode, "a", kRootInode, "b", RenameMode::Exchange).ok());
    EXPECT_EQ(errno_of(tree().rename(kRootInode, "a", kRootInode, "b", RenameMode::NoReplace)),
              EEXIST);
    EXPECT_EQ(pool->stat(file)->links, 2u);
    make("c");
    EXPECT_TRUE(tree().rename(kRootInode, "a", kRootInode, "c", RenameMode::Exchange).ok());
    EXPECT_THAT(pool->paths_of(file), ElementsAre("/b", "/c"));
    pool.expect_sound();
}

TEST_F(TreeTest, ListsInParts) {
    for (int i = 0; i < 100; ++i) make("n" + std::to_string(1000 + i));
    std::vector<std::string> seen;
    for (std::string after;;) {
        const auto part = *tree().names(kRootInode, after, 7);
        for (const auto& name : part) seen.push_back(name.name);
        if (part.size() < 7) break;
        after = part.back().name;
        // Names that come and go meanwhile do not disturb the others.
        base::discard(tree().unlink(kRootInode, "n" + std::to_string(1000 + seen.size() / 2)),
                      "it may be gone already");
    }
    EXPECT_EQ(seen.size(), 100u);
    EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST_F(TreeTest, PathsFollowSymbolicLinks) {
    const auto directory = make("d", FileType::Directory);
    const auto file = make("f", FileType::Regular, directory);
    const auto link = [&](const std::string& name, const std::string& target,
                          InodeNo where = kRootInode) {
        ASSERT_TRUE(tree().make(where, name, symlink(target)).ok());
    };
    link("l", "d");
    link("absolute", "/d/f");
    link("up", "../d/./f", directory);
    link("top", "/d/f", directory);
    link("loop", "loop");
    link("dangling", "nothing");
    EXPECT_EQ(pool->stat("/l/f", root())->inode, file);
    EXPECT_EQ(pool->stat("/absolute", root())->inode, file);
    EXPECT_EQ(pool->stat("/l/up", root())->inode, file);
    EXPECT_EQ(pool->stat("/l/top", root())->inode, file);
    EXPECT_EQ(errno_of(pool->stat("/loop", root())), ELOOP);
    EXPECT_EQ(errno_of(pool->stat("/loop/x", root())), ELOOP);
    EXPECT_EQ(errno_of(pool->stat("/dangling", root())), ENOENT);
    EXPECT_EQ(errno_of(pool->stat("/absolute/x", root())), ENOTDIR);
    EXPECT_EQ(pool->open_file("/absolute", base::Access::Read, root())->inode, file);
    pool->unpin(file);
    // Names at the end are links themselves where names change.
    ASSERT_TRUE(pool->rename("/absolute", "/l/renamed", root()).ok());
    EXPECT_EQ(tree().lookup(directory, "renamed")->type, FileType::Symlink);
    ASSERT_TRUE(pool->unlink("/l/renamed", root()).ok());
    EXPECT_TRUE(exists(file));
    EXPECT_EQ(errno_of(pool->create_file("/dangling", 0644, root())), EEXIST);
    // 40 links are followed, 41 are not.
    link("c0", "d/f");
    for (int i = 1; i <= 40; ++i) link("c" + std::to_string(i), "c" + std::to_string(i - 1));
    EXPECT_EQ(pool->stat("/c39", root())->inode, file);
    EXPECT_EQ(errno_of(pool->stat("/c40", root())), ELOOP);
    // The way through a link needs permission, as any other.
    AttributeChange closed;
    closed.mode = 0700;
    ASSERT_TRUE(tree().change(directory, closed).ok());
    EXPECT_EQ(errno_of(pool->stat("/l/f", user(1000))), EACCES);
}

TEST_F(TreeTest, UsageCountsInodes) {
    const auto before = tree().usage();
    EXPECT_EQ(before.inodes, 1u);
    EXPECT_EQ(before.capacity_bytes, 2u * 16 * 64 * 1024);
    write(make("f"), 10 * kPageBytes);
    EXPECT_EQ(tree().usage().inodes, 2u);
    EXPECT_LE(tree().usage().free_bytes, before.free_bytes - 10 * kPageBytes);
}

TEST_F(TreeTest, WhatLeavesWithADeviceIsStale) {
    pool.reopen();
    const auto file = make("f");
    ASSERT_TRUE(tree().link(file, kRootInode, "g").ok());
    ASSERT_TRUE(tree()
                    .set_attribute(file, "user.a", std::vector<std::uint8_t>{1}, Tree::SetMode::Any)
                    .ok());
    for (const auto& usage : pool->usage())
        if (usage.name == "b") pool->set_leaving(usage.id, true);
    write(file, 100);
    const auto a = pool.id("a");
    pool->set_leaving(pool.id("b"), false);
    pool->set_leaving(a, true);
    ASSERT_TRUE(pool->evacuate_metadata(a).ok());
    const auto exported = pool->export_devices({a}, "other");
    ASSERT_TRUE(exported.ok()) << exported.error().message();
    EXPECT_EQ(errno_of(tree().open(file)), ESTALE);
    EXPECT_EQ(names().size(), 0u);
    pool.expect_sound();
    tree().forget(file, 2);
    // The other pool has both names, and the attribute.
    device::DeviceSpec spec;
    spec.name = "a";
    spec.kind = device::DeviceKind::Dir;
    spec.path = pool.directory() / "a";
    auto device = device::Device::open(spec);
    ASSERT_TRUE(device.ok());
    std::vector<DevicePtr> members;
    members.push_back(std::move(*device));
    auto other = Store::open(std::move(members));
    ASSERT_TRUE(other.ok()) << other.error().message();
    EXPECT_THAT((*other)->paths_of(file), ElementsAre("/f", "/g"));
    EXPECT_EQ(Tree(**other).attribute(file, "user.a")->size(), 1u);
    for (const auto& line : (*other)->check()) ADD_FAILURE() << line;
}

}  // namespace
}  // namespace refault::store
