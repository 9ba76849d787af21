// The three locators against each other on random pools, and the walk over page tables against
// real processes: the pages that they touched, no others, and whose they are.
#include "failure/locator.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/test_random.h"
#include "failure/test_child.h"
#include "store/test_pool.h"
#include "sys/process.h"
#include "sys/socket.h"

namespace refault::failure {
namespace {

using base::Code;
using base::kPageBytes;
using base::testing::Random;
using store::testing::TestPool;
using testing::Child;

using Pages = std::set<std::uint64_t>;  // numbers of pages of the device
using PagesOfProcess = std::map<pid_t, Pages>;

volatile unsigned char* map_file(int fd, std::uint64_t offset, std::uint64_t pages, int flags) {
    return static_cast<unsigned char*>(::mmap(nullptr, pages * kPageBytes, PROT_READ | PROT_WRITE,
                                              flags, fd, static_cast<off_t>(offset)));
}

class LocatorTest : public ::testing::Test {
  protected:
    static constexpr std::uint64_t kSegmentBytes = 64 << 10;
    static constexpr std::uint64_t kSegmentPages = kSegmentBytes / kPageBytes;

    void SetUp() override { pool_.create(2, {kSegmentBytes, 24}); }

    std::string path_of(const std::string& device, std::uint64_t segment) {
        char name[32];
        std::snprintf(name, sizeof name, "/seg-%05u", static_cast<unsigned>(segment));
        return (*pool_->device(pool_.id(device)))->directory() + name;
    }
    DeviceRange whole(const std::string& device) {
        return {0, (*pool_->device(pool_.id(device)))->capacity_bytes()};
    }
    PageTables tables(const std::string& device, DeviceRange range,
                      const PageSources& sources = {}) {
        auto read = read_page_tables(**pool_->device(pool_.id(device)), range, sources);
        EXPECT_TRUE(read) << read.error().message();
        return std::move(*read);
    }
    // Segments with files of the pool in them, as both other locators say.
    std::vector<std::uint64_t> segments_with_data(const std::string& device) {
        std::set<std::uint64_t> segments;
        for (const auto& owner : pool_->locate(pool_.id(device), whole(device)))
            if (!owner.is_metadata) segments.insert(owner.device_range.begin() / kSegmentBytes);
        return {segments.begin(), segments.end()};
    }
    static PagesOfProcess by_process(const PageTables& tables) {
        PagesOfProcess all;
        for (const auto& mapping : tables.mappings)
            for (const auto part : mapping.present)
                for (auto at = part.begin(); at < part.end(); at += kPageBytes)
                    all[mapping.pid].insert(at / kPageBytes);
        return all;
    }

    TestPool pool_;
};

TEST_F(LocatorTest, ReverseMapAndInodesAgreeOnRandomRanges) {
    Random random;
    std::uint64_t hits = 0;
    for (int round = 0; round < 40; ++round) {
        const auto path = "/" + std::to_string(random.below(12));
        if (pool_->stat(path, store::testing::root()).ok() && random.below(2) == 0) {
            ASSERT_TRUE(pool_->unlink(path, store::testing::root()));
        } else if (auto made = pool_->create_file(path, 0600, store::testing::root())) {
            const auto layout = pool_->lock_layout(made->inode);
            base::discard(pool_->resize(made->inode, random.below(5 * kSegmentBytes)),
                          "may find no room");
        }
        for (const auto* device : {"a", "b"}) {
            const auto id = pool_.id(device);
            const auto end = whole(device).end();
            const auto begin = random.below(end);
            const DeviceRange range(begin, begin + random.below(end - begin + 1));
            const auto rmap = locate(*pool_, id, range, LocateBy::Rmap);
            const auto inodes = locate(*pool_, id, range, LocateBy::Inodes);
            ASSERT_TRUE(rmap && inodes);
            ASSERT_TRUE(rmap->owners == inodes->owners)
                << device << " " << range.begin() << " to " << range.end();
            hits += rmap->owners.size();
        }
    }
    // That they agree about nothing would prove nothing.
    EXPECT_GT(hits, 30u);
}

// What a child of the test below does: maps a part of a segment and writes to some of its pages.
struct Touch {
    std::uint64_t segment = 0;
    std::uint64_t first_page = 0;  // of the mapping, in the segment
    std::uint64_t pages = 0;
    std::vector<std::uint64_t> written;  // pages of the mapping
};

Touch random_touch(Random& random, const std::vector<std::uint64_t>& segments,
                   std::uint64_t segment_pages) {
    Touch touch;
    touch.segment = segments[random.below(segments.size())];
    touch.first_page = random.below(segment_pages);
    touch.pages = 1 + random.below(segment_pages - touch.first_page);
    for (std::uint64_t page = 0; page < touch.pages; ++page)
        if (random.below(3) == 0) touch.written.push_back(page);
    return touch;
}

TEST_F(LocatorTest, PagesFindsExactlyWhatWasTouchedByExactlyThoseWhoTouchedIt) {
    Random random;
    for (int i = 0; i < 6; ++i)
        pool_.make_file("/f" + std::to_string(i), kSegmentBytes + 5000 * random.below(9));
    const auto segments = segments_with_data("a");
    ASSERT_FALSE(segments.empty());
    std::vector<std::unique_ptr<Child>> children;
    PagesOfProcess expected;
    for (int i = 0; i < 5; ++i) {
        std::vector<Touch> touches;
        for (int t = 0; t < 3; ++t)
            touches.push_back(random_touch(random, segments, kSegmentPages));
        children.push_back(std::make_unique<Child>([&] {
            for (const auto& touch : touches) {
                const int fd = ::open(path_of("a", touch.segment).c_str(), O_RDWR);
                auto* bytes = map_file(fd, touch.first_page * kPageBytes, touch.pages, MAP_SHARED);
                // Written, because a read brings in neighbours as well.
                for (const auto page : touch.written) bytes[page * kPageBytes] = 1;
                ::close(fd);
            }
        }));
        for (const auto& touch : touches)
            for (const auto page : touch.written)
                expected[children.back()->pid()].insert(touch.segment * kSegmentPages +
                                                        touch.first_page + page);
    }
    std::vector<sys::PagemapMethod> methods = {sys::PagemapMethod::Entries};
    if (sys::has_pagemap_scan()) methods.push_back(sys::PagemapMethod::Scan);
    for (const auto method : methods) {
        const auto all = tables("a", whole("a"), {"/proc", method});
        EXPECT_EQ(by_process(all), expected);
        EXPECT_GT(all.processes_read, 5u);
        for (int i = 0; i < 20; ++i) {
            const auto begin = random.below(whole("a").end() / kPageBytes);
            const auto end = begin + random.below(40);
            PagesOfProcess in_range;
            for (const auto& [pid, pages] : expected)
                for (const auto page : pages)
                    if (page >= begin && page < end) in_range[pid].insert(page);
            EXPECT_EQ(
                by_process(tables("a", {begin * kPageBytes, end * kPageBytes}, {"/proc", method})),
                in_range);
        }
        EXPECT_TRUE(tables("b", whole("b"), {"/proc", method}).mappings.empty());
    }
    children.clear();
    EXPECT_TRUE(tables("a", whole("a")).mappings.empty());
}

// The daemon has never heard of it: no session, no path, only a descriptor that somebody passed on.
TEST_F(LocatorTest, AProcessThatGotADescriptorPassedIsFoundAndItsPagesAreNamed) {
    const auto inode = pool_.make_file("/f", 3 * kPageBytes);
    const auto extent = pool_->extents(inode, {0, 3 * kPageBytes}).at(0);
    const auto device = *pool_->device(extent.device);
    const auto segment = device->segment_at(extent.device_offset);
    const auto in_segment = extent.device_offset - device->segment_range(segment).begin();
    auto ends = sys::seqpacket_pair();
    ASSERT_TRUE(ends);
    {
        const auto fd = device->open_segment(segment, base::Access::ReadWrite);
        ASSERT_TRUE(fd);
        const int sent[] = {fd->get()};
        ASSERT_TRUE(sys::send_message(ends->first.get(), std::vector<std::uint8_t>{1}, sent));
    }
    const auto begin = base::align_down(in_segment, kPageBytes);
    Child child([&] {
        auto message = sys::receive_message(ends->second.get(), 16);
        auto* bytes = map_file(message->descriptors[0].get(), begin, 3, MAP_SHARED);
        bytes[kPageBytes] = 1;
        message->descriptors.clear();
    });
    const auto range = DeviceRange(0, device->capacity_bytes());
    const auto location = locate(*pool_, extent.device, range, LocateBy::Pages);
    ASSERT_TRUE(location);
    ASSERT_EQ(location->page_tables->mappings.size(), 1u);
    const auto& mapping = location->page_tables->mappings[0];
    EXPECT_EQ(mapping.pid, child.pid());
    EXPECT_EQ(mapping.command, sys::command_of(::getpid()));
    EXPECT_TRUE(mapping.is_shared && mapping.are_pages_known);
    EXPECT_EQ(mapping.device_range, extent.device_range());
    const auto touched = DeviceRange::of_length(extent.device_offset + kPageBytes, kPageBytes);
    EXPECT_EQ(mapping.present, std::vector{touched});
    EXPECT_EQ(mapping.present_bytes(), kPageBytes);
    // The same file, in the same words as the other two.
    EXPECT_TRUE(location->owners == pool_->locate(extent.device, touched));
    ASSERT_EQ(location->owners.size(), 1u);
    EXPECT_EQ(location->owners[0].inode, inode);
    EXPECT_EQ(location->owners[0].file_range, base::FileRange(kPageBytes, 2 * kPageBytes));
}

TEST_F(LocatorTest, ARangeInsideOfAMappingIsAnsweredToTheByte) {
    pool_.make_file("/f", kSegmentBytes);
    const auto segment = segments_with_data("a").at(0);
    Child child([&] {
        auto* bytes =
            map_file(::open(path_of("a", segment).c_str(), O_RDWR), 0, kSegmentPages, MAP_SHARED);
        for (std::uint64_t page = 0; page < kSegmentPages; ++page) bytes[page * kPageBytes] = 1;
    });
    const auto begin = segment * kSegmentBytes + 5 * kPageBytes;
    const DeviceRange asked(begin + 7, begin + kPageBytes + 9);
    const auto found = tables("a", asked);
    ASSERT_EQ(found.mappings.size(), 1u);
    EXPECT_EQ(found.mappings[0].device_range, asked);
    EXPECT_EQ(found.mappings[0].addresses.length(), asked.length());
    EXPECT_EQ(found.mappings[0].addresses.begin() % kPageBytes, 7u);
    EXPECT_EQ(found.mappings[0].present, std::vector{asked});
}

TEST_F(LocatorTest, AMappingWithoutPagesAndPrivateCopiesAreNotReportedAsPresent) {
    pool_.make_file("/f", kSegmentBytes);
    const auto segment = segments_with_data("a").at(0);
    Child idle(
        [&] { (void)map_file(::open(path_of("a", segment).c_str(), O_RDWR), 0, 4, MAP_SHARED); });
    Child copies([&] {
        auto* bytes = map_file(::open(path_of("a", segment).c_str(), O_RDWR), 0, 4, MAP_PRIVATE);
        for (int page = 0; page < 4; ++page) bytes[page * kPageBytes] = 1;
    });
    const auto found = tables("a", whole("a"));
    ASSERT_EQ(found.mappings.size(), 2u);
    for (const auto& mapping : found.mappings) {
        EXPECT_EQ(mapping.is_shared, mapping.pid == idle.pid());
        EXPECT_TRUE(mapping.are_pages_known);
        EXPECT_TRUE(mapping.present.empty());
    }
    EXPECT_TRUE(locate(*pool_, pool_.id("a"), whole("a"), LocateBy::Pages)->owners.empty());
}

TEST_F(LocatorTest, AMappingOfAReleasedSegmentHasNoPartOfTheDevice) {
    pool_.make_file("/f", kSegmentBytes);
    const auto segment = segments_with_data("a").at(0);
    Child child(
        [&] { map_file(::open(path_of("a", segment).c_str(), O_RDWR), 0, 1, MAP_SHARED)[0] = 1; });
    ASSERT_EQ(tables("a", whole("a")).mappings.size(), 1u);
    ASSERT_TRUE(pool_->unlink("/f", store::testing::root()));
    EXPECT_TRUE(tables("a", whole("a")).mappings.empty());
}

// /proc is stood in for by a directory: 4241 has maps that cannot be read, 4242 a mapping but no
// page table, 4243 is about to end.
TEST_F(LocatorTest, WhatCannotBeReadIsNamed) {
    pool_.make_file("/f", kSegmentBytes);
    const auto segment = segments_with_data("a").at(0);
    const auto device = *pool_->device(pool_.id("a"));
    const auto identity = device->segment_identity(base::SegmentNo(std::uint32_t(segment)));
    ASSERT_TRUE(identity);
    const auto proc = pool_.directory() / "proc";
    std::filesystem::create_directories(proc / "4241" / "maps");
    std::filesystem::create_directories(proc / "4242");
    std::filesystem::create_directories(proc / "4243");
    std::ofstream(proc / "4241" / "comm") << "secret\n";
    std::ofstream(proc / "4242" / "maps")
        << "7f12a000-7f12c000 rw-s 00001000 00:00 " << identity->inode << "                       "
        << path_of("a", segment) << "\n";
    const auto found = tables("a", whole("a"), {proc.string(), {}});
    EXPECT_EQ(found.processes_read, 0u);
    ASSERT_EQ(found.unreadable.size(), 2u);
    EXPECT_EQ(found.unreadable[0].pid, 4241);
    EXPECT_EQ(found.unreadable[0].command, "secret");
    EXPECT_EQ(found.unreadable[1].pid, 4242);
    EXPECT_NE(found.unreadable[1].reason.find("CONFIG_PROC_PAGE_MONITOR"), std::string::npos);
    ASSERT_EQ(found.mappings.size(), 1u);
    EXPECT_EQ(found.mappings[0].pid, 4242);
    EXPECT_FALSE(found.mappings[0].are_pages_known);
    EXPECT_EQ(found.mappings[0].addresses, AddressRange(0x7f12a000, 0x7f12c000));
    EXPECT_EQ(found.mappings[0].device_range,
              DeviceRange::of_length(segment * kSegmentBytes + kPageBytes, 2 * kPageBytes));
}

TEST_F(LocatorTest, AnOrdinaryUserIsToldWhoseTablesItCouldNotRead) {
    if (::geteuid() != 0) GTEST_SKIP() << "takes root to become somebody else";
    pool_.make_file("/f", kSegmentBytes);
    const auto segment = segments_with_data("a").at(0);
    Child holder(
        [&] { map_file(::open(path_of("a", segment).c_str(), O_RDWR), 0, 1, MAP_SHARED)[0] = 1; });
    std::array<int, 2> ends;
    ASSERT_EQ(::pipe(ends.data()), 0);
    constexpr uid_t kNobody = 65534;
    Child reader([&] {
        const auto device = *pool_->device(pool_.id("a"));
        char answer = '0';
        if (::setresuid(kNobody, kNobody, kNobody) == 0) {
            const auto found = read_page_tables(*device, whole("a"));
            for (const auto& process : found ? found->unreadable : std::vector<UnreadableProcess>())
                if (process.pid == holder.pid() && found->mappings.empty()) answer = '1';
        }
        (void)!::write(ends[1], &answer, 1);
    });
    char answer = 0;
    ASSERT_EQ(::read(ends[0], &answer, 1), 1);
    EXPECT_EQ(answer, '1');
    for (const int end : ends) ::close(end);
}

TEST(LocateBy, HasThreeNames) {
    EXPECT_EQ(*parse_locate_by("rmap"), LocateBy::Rmap);
    EXPECT_EQ(*parse_locate_by("inodes"), LocateBy::Inodes);
    EXPECT_EQ(*parse_locate_by("pages"), LocateBy::Pages);
    for (const auto* wrong : {"", "page", "RMAP"})
        EXPECT_EQ(parse_locate_by(wrong).error().code(), Code::Invalid);
}

}  // namespace
}  // namespace refault::failure
