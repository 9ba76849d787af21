// The pager must not allocate: whoever it moves memory for may hold the allocator's lock.
#include <sys/prctl.h>

#include <cstring>
#include <new>

#include "client/test_session.h"

namespace {

// Counts what the pager takes from the heap, while somebody wants to know. Replaces the operators
// of the whole test program, and does nothing else.
std::atomic<bool> g_counts_allocations = false;
std::atomic<int> g_pager_allocations = 0;

void note_allocation() {
    if (!g_counts_allocations.load(std::memory_order_relaxed)) return;
    char name[16];
    if (::prctl(PR_GET_NAME, name) == 0 && std::strcmp(name, "refault-pager") == 0)
        ++g_pager_allocations;
}

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size) {
    note_allocation();
    if (void* const made = std::malloc(size)) return made;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}

namespace refault::client::testing {
namespace {

using AllocationTest = SessionTest;

TEST_F(AllocationTest, ThePagerAllocatesNothing) {
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    daemon_->move(kPath, {0, kFileBytes});
    g_counts_allocations = true;
    std::mt19937_64 random(test_seed());
    for (int i = 0; i < 20; ++i)
        daemon_->move(kPath, base::FileRange::of_length(random() % 4 * kPartBytes, 4 * kPartBytes));
    rf_mapping* const second = map(RF_READ | RF_WRITE);
    daemon_->finish_move(kPath);
    g_counts_allocations = false;
    EXPECT_NE(second, nullptr);
    EXPECT_EQ(g_pager_allocations, 0);
}

}  // namespace
}  // namespace refault::client::testing
