// Who may do what with names: a table of permissions, and the rules of renaming.
#include <gtest/gtest.h>

#include <cerrno>
#include <thread>

#include "store/path_walk.h"
#include "store/test_pool.h"

namespace refault::store {
namespace {

using base::Access;
using base::Code;
using namespace testing;

class Namespace : public ::testing::Test {
  protected:
    void SetUp() override { pool.create(1); }
    void make_directory(const std::string& path, mode_t mode, const Cred& who) {
        ASSERT_TRUE(pool->make_directory(path, mode, who).ok()) << path;
    }
    void make_file(const std::string& path, mode_t mode, const Cred& who) {
        ASSERT_TRUE(pool->create_file(path, mode, who).ok()) << path;
    }
    template <typename T>
    static int errno_of(const Result<T>& result) {
        return result.ok() ? 0 : result.error().sys_errno();
    }
    int try_open(const std::string& path, Access access, const Cred& who) {
        const auto opened = pool->open_file(path, access, who);
        if (opened) pool->unpin(opened->inode);
        return errno_of(opened);
    }
    TestPool pool;
    const Cred ann = user(1000);
    const Cred bob = user(1001);
    const Cred cat{1002, 1002, {1000}, 1};  // in ann's group
};

TEST_F(Namespace, OpenNeedsTheRightBits) {
    make_file("/f", 0640, ann);
    const struct {
        Cred who;
        Access access;
        int expected;
    } table[] = {
        {ann, Access::Read, 0},         {ann, Access::ReadWrite, 0},
        {cat, Access::Read, 0},         {cat, Access::ReadWrite, EACCES},
        {bob, Access::Read, EACCES},    {bob, Access::ReadWrite, EACCES},
        {root(), Access::ReadWrite, 0},
    };
    for (const auto& row : table)
        EXPECT_EQ(try_open("/f", row.access, row.who), row.expected) << row.who.uid;
    EXPECT_EQ(try_open("/", Access::Read, root()), EISDIR);
    EXPECT_EQ(try_open("/none", Access::Read, root()), ENOENT);
    EXPECT_EQ(try_open("/f/x", Access::Read, root()), ENOTDIR);
}

TEST_F(Namespace, EveryDirectoryOnTheWayMustBeSearchable) {
    make_directory("/a", 0755, ann);
    make_directory("/a/b", 0600, ann);  // no search
    ASSERT_TRUE(pool->set_mode("/a/b", 0700, ann).ok());
    make_file("/a/b/f", 0666, ann);
    EXPECT_EQ(try_open("/a/b/f", Access::Read, bob), EACCES);
    EXPECT_EQ(errno_of(pool->stat("/a/b/f", bob)), EACCES);
    EXPECT_EQ(errno_of(pool->stat("/a/b", bob)), 0);
    EXPECT_EQ(errno_of(pool->list("/a/b", bob)), EACCES);
    EXPECT_EQ(errno_of(pool->unlink("/a/b/f", bob)), EACCES);
    EXPECT_EQ(errno_of(pool->rename("/a/b/f", "/mine", bob)), EACCES);
    ASSERT_TRUE(pool->set_mode("/a/b", 0711, ann).ok());
    EXPECT_EQ(try_open("/a/b/f", Access::Read, bob), 0);
    EXPECT_EQ(errno_of(pool->list("/a/b", bob)), EACCES);
    ASSERT_TRUE(pool->set_mode("/a/b", 0600, ann).ok());
    EXPECT_EQ(try_open("/a/b/f", Access::Read, ann), EACCES);
}

TEST_F(Namespace, MakingAndRemovingNeedsAWritableDirectory) {
    make_directory("/d", 0755, ann);
    make_file("/d/f", 0666, ann);
    EXPECT_EQ(errno_of(pool->create_file("/d/g", 0600, bob)), EACCES);
    EXPECT_EQ(errno_of(pool->make_directory("/d/g", 0700, bob)), EACCES);
    EXPECT_EQ(errno_of(pool->unlink("/d/f", bob)), EACCES);
    EXPECT_EQ(errno_of(pool->rename("/d/f", "/d/g", bob)), EACCES);
    EXPECT_EQ(errno_of(pool->remove_directory("/d", ann)), ENOTEMPTY);
    EXPECT_EQ(errno_of(pool->unlink("/d/f", ann)), 0);
    EXPECT_EQ(errno_of(pool->unlink("/d", ann)), EISDIR);
    EXPECT_EQ(errno_of(pool->remove_directory("/d", ann)), 0);
    EXPECT_EQ(errno_of(pool->remove_directory("/d", ann)), ENOENT);
}

TEST_F(Namespace, StickyDirectoriesProtectFilesOfOthers) {
    // The root of root's pool is one.
    EXPECT_EQ(pool->stat("/", root())->mode, mode_t{01777});
    make_file("/ann", 0666, ann);
    make_file("/bob", 0666, bob);
    make_directory("/bobs", 0777, bob);
    EXPECT_EQ(errno_of(pool->unlink("/ann", bob)), EPERM);
    EXPECT_EQ(errno_of(pool->rename("/ann", "/x", bob)), EPERM);
    EXPECT_EQ(errno_of(pool->rename("/bob", "/ann", bob)), EPERM);
    EXPECT_EQ(errno_of(pool->remove_directory("/bobs", ann)), EPERM);
    EXPECT_EQ(errno_of(pool->unlink("/ann", ann)), 0);
    EXPECT_EQ(errno_of(pool->unlink("/bob", root())), 0);
    // The directory's owner may as well.
    make_directory("/shared", 01777, ann);
    make_file("/shared/bob", 0600, bob);
    EXPECT_EQ(errno_of(pool->unlink("/shared/bob", cat)), EPERM);
    EXPECT_EQ(errno_of(pool->unlink("/shared/bob", ann)), 0);
}

TEST_F(Namespace, RenameFollowsTheRulesOfPosix) {
    make_directory("/d", 0755, ann);
    make_directory("/d/sub", 0755, ann);
    make_directory("/e", 0755, ann);
    make_file("/f", 0644, ann);
    make_file("/d/g", 0644, ann);
    EXPECT_EQ(errno_of(pool->rename("/d", "/d/sub/x", ann)), EINVAL);
    EXPECT_EQ(errno_of(pool->rename("/d", "/d/x", ann)), EINVAL);
    EXPECT_EQ(errno_of(pool->rename("/f", "/e", ann)), EISDIR);
    EXPECT_EQ(errno_of(pool->rename("/e", "/f", ann)), ENOTDIR);
    EXPECT_EQ(errno_of(pool->rename("/e", "/d", ann)), ENOTEMPTY);
    EXPECT_EQ(errno_of(pool->rename("/none", "/x", ann)), ENOENT);
    EXPECT_EQ(errno_of(pool->rename("/f", "/none/x", ann)), ENOENT);
    EXPECT_EQ(errno_of(pool->rename("/", "/x", root())), EBUSY);
    EXPECT_EQ(errno_of(pool->rename("/f", "/", root())), EBUSY);
    EXPECT_EQ(errno_of(pool->rename("/f", "/f", ann)), 0);
    const auto links = pool->stat("/d", ann)->links;
    EXPECT_EQ(errno_of(pool->rename("/e", "/d/sub", ann)), 0);  // replaces an empty directory
    EXPECT_EQ(pool->stat("/d", ann)->links, links);
    EXPECT_EQ(errno_of(pool->rename("/f", "/d/g", ann)), 0);
    EXPECT_EQ(errno_of(pool->rename("/d", "/moved", ann)), 0);
    EXPECT_EQ(pool->path_of(pool->stat("/moved/g", ann)->inode), "/moved/g");
    pool.expect_sound();
    pool.reopen();
    EXPECT_EQ(pool->list("/moved", ann)->size(), 2u);
    EXPECT_EQ(pool->list("/", ann)->size(), 1u);
    pool.expect_sound();
}

// Its bytes may be under way to another place: they go when that has ended, and nobody waits.
TEST_F(Namespace, WhatIsRemovedWhileItsLayoutIsLockedIsFreedAfterwards) {
    for (const auto* path : {"/unlinked", "/replaced", "/crashed", "/new"}) {
        make_file(path, 0644, ann);
        ASSERT_TRUE(pool->resize(pool->stat(path, ann)->inode, 3 * base::kPageBytes).ok());
    }
    const auto taken = [&] { return pool.usage("a").data_bytes; };
    const auto all = taken();
    const auto file = all / 4;
    const auto unlinked = pool->stat("/unlinked", ann)->inode;
    const auto replaced = pool->stat("/replaced", ann)->inode;
    {
        auto lock = pool->lock_layouts({unlinked, replaced});
        EXPECT_EQ(errno_of(pool->unlink("/unlinked", ann)), 0);
        EXPECT_EQ(errno_of(pool->rename("/new", "/replaced", ann)), 0);
        EXPECT_EQ(errno_of(pool->stat("/unlinked", ann)), ENOENT);
        EXPECT_EQ(taken(), all);
        // Others come and go for whom it is too late.
        std::thread([&] {
            EXPECT_FALSE(pool->lock_layout_until(unlinked, Store::LayoutUse::Read, {}).ok());
        }).join();
    }
    EXPECT_EQ(taken(), all - 2 * file);
    EXPECT_FALSE(pool->stat(unlinked).ok());
    EXPECT_FALSE(pool->stat(replaced).ok());
    pool.expect_sound();
    {
        auto lock = pool->lock_layout(pool->stat("/crashed", ann)->inode);
        EXPECT_EQ(errno_of(pool->unlink("/crashed", ann)), 0);
        pool.expect_sound();
        const TempDirectory crashed;
        std::filesystem::copy(pool.directory(), crashed.path(),
                              std::filesystem::copy_options::recursive);
        const auto opened = pool.open_at(crashed.path());
        ASSERT_TRUE(opened.ok()) << opened.error().message();
        EXPECT_EQ((*opened)->usage()[0].data_bytes, file);
        EXPECT_TRUE((*opened)->check().empty());
    }
    EXPECT_EQ(taken(), file);
    pool.expect_sound();
}

TEST_F(Namespace, OnlyOwnersChangeModesOnlyRootChangesOwners) {
    make_file("/f", 0644, ann);
    EXPECT_EQ(errno_of(pool->set_mode("/f", 0666, bob)), EPERM);
    EXPECT_EQ(errno_of(pool->set_mode("/f", 02755, ann)), 0);
    EXPECT_EQ(pool->stat("/f", ann)->mode, mode_t{02755});
    EXPECT_EQ(errno_of(pool->set_owner("/f", 1001, 1001, ann)), EPERM);
    EXPECT_EQ(errno_of(pool->set_owner("/f", 1001, static_cast<gid_t>(-1), root())), 0);
    EXPECT_EQ(pool->stat("/f", ann)->uid, 1001u);
    EXPECT_EQ(pool->stat("/f", ann)->gid, 1000u);
    // bob is not in the group: the set-group-id bit does not stay.
    EXPECT_EQ(errno_of(pool->set_mode("/f", 02755, bob)), 0);
    EXPECT_EQ(pool->stat("/f", bob)->mode, mode_t{0755});
    EXPECT_EQ(errno_of(pool->set_modified("/f", 7, ann)), EPERM);
    EXPECT_EQ(errno_of(pool->set_modified("/f", 7, bob)), 0);
    EXPECT_EQ(pool->stat("/f", bob)->modified_ns, 7u);
}

TEST_F(Namespace, GroupOfASetgidDirectoryIsHandedOn) {
    make_directory("/d", 0755, ann);
    ASSERT_TRUE(pool->set_mode("/d", 02777, ann).ok());
    EXPECT_EQ(pool->create_file("/d/f", 0644, bob)->gid, 1000u);
    const auto sub = pool->make_directory("/d/sub", 0755, bob);
    EXPECT_EQ(sub->gid, 1000u);
    EXPECT_EQ(sub->mode, mode_t{02755});
}

TEST_F(Namespace, BadPathsAreErrors) {
    const std::string long_name(256, 'x');
    EXPECT_EQ(errno_of(pool->stat("", root())), EINVAL);
    EXPECT_EQ(errno_of(pool->stat("f", root())), EINVAL);
    EXPECT_EQ(errno_of(pool->stat("/a/../b", root())), EINVAL);
    EXPECT_EQ(errno_of(pool->create_file("/.", 0644, root())), EINVAL);
    EXPECT_EQ(errno_of(pool->create_file("/" + long_name, 0644, root())), ENAMETOOLONG);
    EXPECT_EQ(errno_of(pool->create_file("/" + long_name.substr(1), 0644, root())), 0);
    EXPECT_EQ(errno_of(pool->create_file(std::string("/a\0b", 4), 0644, root())), EINVAL);
    EXPECT_EQ(errno_of(pool->create_file("/", 0644, root())), EBUSY);
    EXPECT_EQ(errno_of(pool->create_file("/" + long_name.substr(1), 0644, root())), EEXIST);
    EXPECT_EQ(errno_of(pool->remove_directory("/", root())), EBUSY);
    EXPECT_EQ(errno_of(pool->stat("//", root())), 0);
    EXPECT_EQ(split_path("//a///b/")->size(), 2u);
    EXPECT_EQ(pool->pin(InodeNo(77)).error().code(), Code::NotFound);
}

TEST_F(Namespace, PoolOfAUserIsTheUsers) {
    TestPool own;
    own.create(1, {}, ann);
    EXPECT_EQ(own->stat("/", ann)->mode, mode_t{0755});
    EXPECT_EQ(errno_of(own->create_file("/f", 0644, ann)), 0);
    EXPECT_EQ(errno_of(own->create_file("/g", 0644, bob)), EACCES);
}

}  // namespace
}  // namespace refault::store
