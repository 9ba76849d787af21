// For tests of the namespace by inode numbers: a pool and short ways to make things in it.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "store/test_pool.h"
#include "store/tree.h"

namespace refault::store::testing {

using base::kRootInode;

template <typename T>
int errno_of(const Result<T>& result) {
    return result.ok() ? 0 : result.error().sys_errno();
}

class TreeTest : public ::testing::Test {
  protected:
    void SetUp() override { pool.create(2); }

    Tree tree() { return Tree(*pool); }
    static NewNode node(FileType type, mode_t mode = 0644) { return {type, mode, 0, 0, 0, {}}; }
    static NewNode symlink(const std::string& target) {
        return {FileType::Symlink, 0777, 0, 0, 0, target};
    }
    InodeNo make(const std::string& name, FileType type = FileType::Regular,
                 InodeNo directory = kRootInode) {
        const auto made = tree().make(directory, name, node(type));
        EXPECT_TRUE(made.ok()) << name << ": " << (made ? "" : made.error().message());
        return made ? made->inode : InodeNo();
    }
    std::vector<std::string> names(InodeNo directory = kRootInode) {
        std::vector<std::string> all;
        const auto found = tree().names(directory);
        for (const auto& name : *found) all.push_back(name.name);
        return all;
    }
    void write(InodeNo inode, std::uint64_t size) {
        const auto layout = pool->lock_layout(inode);
        ASSERT_TRUE(pool->resize(inode, size).ok());
        ASSERT_TRUE(pool->write(inode, 0, TestPool::pattern(inode, size)).ok());
    }
    bool exists(InodeNo inode) { return pool->stat(inode).ok(); }

    TestPool pool;
};

}  // namespace refault::store::testing
