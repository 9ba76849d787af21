// Page tables of real processes: both ways of reading them see exactly what was touched.
#include "sys/pagemap.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "base/test_random.h"

namespace refault::sys {
namespace {

using base::Code;
using base::kPageBytes;

// A mapping of a new file in shared memory.
class Mapped {
  public:
    Mapped(std::uint64_t pages, int flags) : length_(pages * kPageBytes) {
        const UniqueFd fd(::memfd_create("pagemap-test", MFD_CLOEXEC));
        EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(length_)), 0);
        address_ = ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, flags, fd.get(), 0);
        EXPECT_NE(address_, MAP_FAILED);
    }
    ~Mapped() { ::munmap(address_, length_); }
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;

    // Written, because a read brings in neighbours as well.
    void write(std::uint64_t page) const { bytes()[page * kPageBytes] = 1; }
    void read(std::uint64_t page) const { (void)bytes()[page * kPageBytes]; }
    AddressRange addresses() const {
        return AddressRange::of_length(reinterpret_cast<std::uintptr_t>(address_), length_);
    }
    AddressRange page(std::uint64_t number) const {
        return AddressRange::of_length(addresses().begin() + number * kPageBytes, kPageBytes);
    }

  private:
    volatile unsigned char* bytes() const { return static_cast<unsigned char*>(address_); }
    const std::uint64_t length_;
    void* address_;
};

std::vector<PagemapMethod> methods() {
    std::vector<PagemapMethod> all = {PagemapMethod::Entries};
    if (has_pagemap_scan()) all.push_back(PagemapMethod::Scan);
    return all;
}

std::vector<PageRun> own_runs(AddressRange addresses, PagemapMethod method) {
    auto pagemap = Pagemap::open(::getpid(), "/proc", method);
    EXPECT_TRUE(pagemap);
    auto runs = pagemap->runs(addresses);
    EXPECT_TRUE(runs) << (runs ? "" : runs.error().message());
    return runs ? *runs : std::vector<PageRun>();
}

TEST(Pagemap, BothMethodsSeeExactlyThePagesTouched) {
    base::testing::Random random;
    // More runs than one call of either method returns.
    constexpr std::uint64_t kPages = 20'000;
    const Mapped mapped(kPages, MAP_SHARED);
    std::set<std::uint64_t> touched;
    for (int i = 0; i < 6'000; ++i) touched.insert(random.below(kPages));
    for (const auto page : touched) mapped.write(page);
    for (const auto method : methods()) {
        std::set<std::uint64_t> seen;
        std::uint64_t end = 0;
        for (const auto& run : own_runs(mapped.addresses(), method)) {
            EXPECT_TRUE(run.is_present && run.is_file);
            EXPECT_GT(run.addresses.begin(), end) << "neighbours are joined";
            end = run.addresses.end();
            for (auto at = run.addresses.begin(); at < end; at += kPageBytes)
                seen.insert((at - mapped.addresses().begin()) / kPageBytes);
        }
        EXPECT_TRUE(seen == touched) << seen.size() << " of " << touched.size();
    }
}

TEST(Pagemap, APartOfAPageCountsAndWhatLiesBesideDoesNot) {
    const Mapped mapped(8, MAP_SHARED);
    for (std::uint64_t page = 2; page < 6; ++page) mapped.write(page);
    const AddressRange asked(mapped.page(3).begin() + 100, mapped.page(4).begin() + 1);
    const std::vector<PageRun> expected = {
        {AddressRange(mapped.page(3).begin(), mapped.page(4).end()), true, true}};
    for (const auto method : methods()) {
        EXPECT_TRUE(own_runs(asked, method) == expected);
        EXPECT_TRUE(own_runs(AddressRange(asked.begin(), asked.begin()), method).empty());
    }
}

TEST(Pagemap, APrivateCopyIsNotOfTheFile) {
    const Mapped mapped(4, MAP_PRIVATE);
    mapped.read(0);
    mapped.write(2);
    const std::vector<PageRun> expected = {{mapped.page(0), true, true},
                                           {mapped.page(2), true, false}};
    for (const auto method : methods())
        EXPECT_TRUE(own_runs(mapped.addresses(), method) == expected);
}

TEST(Pagemap, AProcessThatHasEndedIsGone) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    ::waitpid(child, nullptr, 0);
    const auto pagemap = Pagemap::open(child);
    ASSERT_FALSE(pagemap);
    EXPECT_EQ(pagemap.error().code(), Code::Gone);
}

}  // namespace
}  // namespace refault::sys
