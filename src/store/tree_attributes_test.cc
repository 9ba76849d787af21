// Attributes, times and extended attributes of inodes, as system calls expect them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/test_tree.h"

namespace refault::store {
namespace {

using namespace testing;
using ::testing::ElementsAre;

TEST_F(TreeTest, AttributesAndTimes) {
    const auto file = make("f");
    AttributeChange change;
    change.mode = 04711;
    change.uid = 7;
    change.accessed_ns = 11;
    change.modified_ns = 12;
    const auto changed = *tree().change(file, change);
    EXPECT_EQ(changed.mode, 04711u);
    EXPECT_GT(changed.changed_ns, 12u);
    AttributeChange times;
    times.changed_ns = 13;
    ASSERT_TRUE(tree().change(file, times).ok());
    pool.reopen();
    const auto read = *pool->stat(file);
    EXPECT_EQ(read.mode, 04711u);
    EXPECT_EQ(read.uid, 7u);
    EXPECT_EQ(read.gid, 0u);
    EXPECT_EQ(read.accessed_ns, 11u);
    EXPECT_EQ(read.modified_ns, 12u);
    EXPECT_EQ(read.changed_ns, 13u);
    EXPECT_EQ(errno_of(tree().change(InodeNo(99), times)), ESTALE);
}

TEST_F(TreeTest, AccessTimesAreRelative) {
    const auto file = make("f");
    const auto made = *pool->stat(file);
    tree().note_accessed(file);
    const auto first = pool->stat(file)->accessed_ns;
    EXPECT_GT(first, made.accessed_ns);
    tree().note_accessed(file);
    EXPECT_EQ(pool->stat(file)->accessed_ns, first) << "read again without a change";
    write(file, 10);
    tree().note_accessed(file);
    EXPECT_GT(pool->stat(file)->accessed_ns, first);
    EXPECT_EQ(pool->stat(file)->changed_ns, pool->stat(file)->modified_ns);
}

TEST_F(TreeTest, TimesOfDirectoriesFollowTheirNames) {
    const auto directory = make("d", FileType::Directory);
    const auto modified = [&] { return pool->stat(directory)->modified_ns; };
    auto last = modified();
    const auto expect_touched = [&](const char* what) {
        EXPECT_GT(modified(), last) << what;
        last = modified();
    };
    const auto file = make("f", FileType::Regular, directory);
    expect_touched("make");
    const auto changed = pool->stat(file)->changed_ns;
    ASSERT_TRUE(tree().link(file, directory, "g").ok());
    expect_touched("link");
    EXPECT_GT(pool->stat(file)->changed_ns, changed);
    ASSERT_TRUE(tree().rename(directory, "g", kRootInode, "g", RenameMode::Replace).ok());
    expect_touched("rename");
    ASSERT_TRUE(tree().unlink(directory, "f").ok());
    expect_touched("unlink");
}

TEST_F(TreeTest, ExtendedAttributes) {
    using Value = std::vector<std::uint8_t>;
    using Mode = Tree::SetMode;
    const auto file = make("f");
    EXPECT_EQ(errno_of(tree().attribute(file, "user.a")), ENODATA);
    EXPECT_EQ(errno_of(tree().set_attribute(file, "user.a", Value{1}, Mode::Replace)), ENODATA);
    ASSERT_TRUE(tree().set_attribute(file, "user.a", Value{1}, Mode::Create).ok());
    EXPECT_EQ(errno_of(tree().set_attribute(file, "user.a", Value{2}, Mode::Create)), EEXIST);
    ASSERT_TRUE(tree().set_attribute(file, "user.a", Value{3}, Mode::Replace).ok());
    ASSERT_TRUE(tree().set_attribute(file, "user.b", Value(65536, 9), Mode::Any).ok());
    ASSERT_TRUE(tree().set_attribute(file, "user.c", {}, Mode::Any).ok());
    EXPECT_EQ(errno_of(tree().set_attribute(file, "user.d", Value(65537), Mode::Any)), E2BIG);
    EXPECT_EQ(errno_of(tree().set_attribute(file, "", {}, Mode::Any)), ERANGE);
    EXPECT_EQ(errno_of(tree().set_attribute(file, std::string(256, 'x'), {}, Mode::Any)), ERANGE);
    pool.reopen();
    EXPECT_EQ(*tree().attribute(file, "user.a"), Value{3});
    EXPECT_EQ(*tree().attribute(file, "user.b"), Value(65536, 9));
    EXPECT_EQ(*tree().attribute(file, "user.c"), Value{});
    EXPECT_THAT(*tree().attribute_names(file), ElementsAre("user.a", "user.b", "user.c"));
    ASSERT_TRUE(tree().remove_attribute(file, "user.b").ok());
    EXPECT_EQ(errno_of(tree().remove_attribute(file, "user.b")), ENODATA);
    EXPECT_THAT(*tree().attribute_names(file), ElementsAre("user.a", "user.c"));
    EXPECT_EQ(tree().attribute_names(kRootInode)->size(), 0u);
}

TEST_F(TreeTest, NamesOfAttributesHaveALimit) {
    const auto file = make("f");
    int count = 0;
    Status set;
    for (; set; ++count)
        set = tree().set_attribute(file, "user." + std::to_string(count) + std::string(200, 'x'),
                                   {}, Tree::SetMode::Any);
    EXPECT_EQ(errno_of(set), ENOSPC);
    EXPECT_NEAR(count, 65536 / 208, 5);
}

}  // namespace
}  // namespace refault::store
