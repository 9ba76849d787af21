// PageSet against a set of page numbers.
#include "client/page_set.h"

#include <gtest/gtest.h>

#include <set>

#include "client/test_session.h"

namespace refault::client {
namespace {

TEST(PageSet, IsEmptyOnlyAfterEveryPageWasRemoved) {
    EXPECT_TRUE(PageSet().empty());
    std::mt19937_64 random(testing::test_seed());
    for (int round = 0; round < 200; ++round) {
        const std::uint64_t pages = 1 + random() % 300;
        PageSet set(pages);
        std::set<std::uint64_t> model;
        for (std::uint64_t page = 0; page < pages; ++page) model.insert(page);
        while (!model.empty()) {
            ASSERT_FALSE(set.empty()) << model.size() << " of " << pages;
            const auto begin = random() % pages;
            const auto end = begin + random() % (pages - begin + 1);
            set.remove(begin, end);
            model.erase(model.lower_bound(begin), model.lower_bound(end));
        }
        ASSERT_TRUE(set.empty()) << pages;
    }
}

}  // namespace
}  // namespace refault::client
