// A file's extent map and a device's reverse map against pages in plain arrays.
#include "store/extent_map.h"

#include <gtest/gtest.h>

#include <array>

#include "store/reverse_map.h"
#include "store/test_pool.h"

namespace refault::store {
namespace {

using base::kPageBytes;
using testing::Random;

constexpr std::uint64_t kSegmentBytes = 16 * kPageBytes;
constexpr std::uint32_t kSegments = 6;
constexpr std::uint64_t kDevicePages = kSegments * 16;
constexpr std::uint64_t kFilePages = 64;
constexpr std::uint64_t kFiles = 3;

Extent run_of(std::uint64_t inode, std::uint64_t file_page, std::uint64_t device_page,
              std::uint64_t pages, std::uint32_t replica = 0) {
    return {InodeNo(inode),           file_page * kPageBytes, DeviceId(1),
            device_page * kPageBytes, pages * kPageBytes,     replica};
}

// Which (file, page) is at each page of the device, and back.
struct Model {
    struct Page {
        std::uint64_t inode = 0;
        std::uint64_t file_page = 0;
        bool operator==(const Page&) const = default;
    };
    std::array<Page, kDevicePages> device{};
    std::array<std::array<std::int64_t, kFilePages>, kFiles + 1> file{};
    Model() {
        for (auto& pages : file) pages.fill(-1);
    }
    bool continues(std::uint64_t page) const {  // page and the one before are one extent
        return page % 16 != 0 && device[page].inode != 0 &&
               device[page].inode == device[page - 1].inode &&
               device[page].file_page == device[page - 1].file_page + 1;
    }
    std::uint64_t extents() const {
        std::uint64_t count = 0;
        for (std::uint64_t page = 0; page < kDevicePages; ++page)
            count += device[page].inode != 0 && !continues(page);
        return count;
    }
};

struct Maps {
    Model model;
    std::array<ExtentMap, kFiles + 1> files;
    ReverseMap reverse{DeviceId(1), kSegmentBytes, kSegments};

    Maps() {
        for (std::uint32_t i = 0; i < kSegments; ++i)
            reverse.set_owner(SegmentNo(i), {SegmentOwner::Kind::SharedByUser, 0, {}});
    }
    bool fits(const Extent& e) const {
        for (std::uint64_t i = 0; i < e.length / kPageBytes; ++i)
            if (model.device[e.device_offset / kPageBytes + i].inode != 0 ||
                model.file[e.inode.raw()][e.file_offset / kPageBytes + i] >= 0)
                return false;
        return true;
    }
    bool holds(const Extent& e) const {
        for (std::uint64_t i = 0; i < e.length / kPageBytes; ++i)
            if (model.device[e.device_offset / kPageBytes + i] !=
                Model::Page{e.inode.raw(), e.file_offset / kPageBytes + i})
                return false;
        return true;
    }
    void set(const Extent& e, bool is_there) {
        for (std::uint64_t i = 0; i < e.length / kPageBytes; ++i) {
            const auto page = e.device_offset / kPageBytes + i;
            const auto file_page = e.file_offset / kPageBytes + i;
            model.device[page] = is_there ? Model::Page{e.inode.raw(), file_page} : Model::Page{};
            model.file[e.inode.raw()][file_page] = is_there ? static_cast<std::int64_t>(page) : -1;
        }
    }
};

Extent random_run(Random& random) {
    const auto pages = 1 + random.below(5);
    const auto segment = random.below(kSegments);
    return run_of(1 + random.below(kFiles), random.below(kFilePages - pages),
                  segment * 16 + random.below(16 - pages + 1), pages);
}

// A part of what is there, or anything.
Extent random_part(Random& random, const Model& model) {
    auto run = random_run(random);
    const auto page = run.device_offset / kPageBytes;
    if (model.device[page].inode != 0) {
        run.inode = InodeNo(model.device[page].inode);
        run.file_offset = model.device[page].file_page * kPageBytes;
    }
    return run;
}

void expect_same(const Maps& maps, Random& random) {
    ASSERT_EQ(maps.reverse.extent_count(), maps.model.extents());
    std::uint64_t in_files = 0;
    for (const auto& file : maps.files) in_files += file.size();
    ASSERT_EQ(in_files, maps.model.extents());
    // Any range of the device, page by page.
    const auto begin = random.below(kDevicePages * kPageBytes);
    const auto end = begin + random.below(kDevicePages * kPageBytes);
    std::vector<Located> located;
    maps.reverse.locate(DeviceRange(begin, end), located);
    auto at = begin;
    for (const auto& part : located) {
        for (; at < part.device_range.begin(); ++at) {
            ASSERT_EQ(maps.model.device[at / kPageBytes].inode, 0u);
            at =
                std::min(base::align_down(at, kPageBytes) + kPageBytes, part.device_range.begin()) -
                1;
        }
        ASSERT_EQ(part.device_range.length(), part.file_range.length());
        for (; at < part.device_range.end(); at = base::align_down(at, kPageBytes) + kPageBytes) {
            const auto& page = maps.model.device[at / kPageBytes];
            ASSERT_EQ(page.inode, part.inode.raw());
            ASSERT_EQ(page.file_page * kPageBytes + at % kPageBytes,
                      part.file_range.begin() + (at - part.device_range.begin()));
        }
        at = part.device_range.end();
    }
    for (; at < std::min(end, kDevicePages * kPageBytes);
         at = base::align_down(at, kPageBytes) + kPageBytes)
        ASSERT_EQ(maps.model.device[at / kPageBytes].inode, 0u);
    // Any range of a file.
    const auto inode = 1 + random.below(kFiles);
    const FileRange range(random.below(kFilePages) * kPageBytes + 5, kFilePages * kPageBytes - 7);
    std::uint64_t covered = 0;
    for (const auto& extent : maps.files[inode].overlapping(InodeNo(inode), range)) {
        ASSERT_TRUE(range.contains(extent.file_range()));
        covered += extent.length;
        for (auto offset = extent.file_offset; offset < extent.file_offset + extent.length;
             ++offset) {
            ASSERT_EQ(maps.model.file[inode][offset / kPageBytes],
                      static_cast<std::int64_t>(
                          (extent.device_offset + (offset - extent.file_offset)) / kPageBytes));
            offset = std::min(base::align_down(offset, kPageBytes) + kPageBytes,
                              extent.file_range().end()) -
                     1;
        }
    }
    std::uint64_t expected = 0;
    for (std::uint64_t page = 0; page < kFilePages; ++page)
        if (maps.model.file[inode][page] >= 0)
            expected +=
                FileRange::of_length(page * kPageBytes, kPageBytes).intersect(range).length();
    ASSERT_EQ(covered, expected);
}

TEST(ExtentMap, AndReverseMapAgreeWithPages) {
    Random random(testing::test_seed());
    Maps maps;
    for (int step = 0; step < 20000; ++step) {
        const bool adds = random.below(100) < 55;
        auto run = adds ? random_run(random) : random_part(random, maps.model);
        // Often right behind what is there, so that joins happen.
        if (const auto page = run.device_offset / kPageBytes;
            adds && page % 16 != 0 && random.one_in(2)) {
            const auto& before = maps.model.device[page - 1];
            if (before.inode != 0 && before.file_page + 6 < kFilePages) {
                run.inode = InodeNo(before.inode);
                run.file_offset = (before.file_page + 1) * kPageBytes;
            }
        }
        auto& file = maps.files[run.inode.raw()];
        if (adds) {
            const bool fits = maps.fits(run);
            ASSERT_EQ(!file.overlaps(0, run.file_range()) &&
                          !maps.reverse.overlaps(run.device_offset, run.length),
                      fits);
            if (!fits) continue;
            file.add(run, kSegmentBytes);
            maps.reverse.add(run);
        } else {
            const bool holds = maps.holds(run);
            ASSERT_EQ(file.holds(run), holds);
            ASSERT_EQ(maps.reverse.holds(run), holds);
            if (!holds) continue;
            file.cut(run);
            maps.reverse.cut(run);
        }
        maps.set(run, adds);
        expect_same(maps, random);
        if (HasFatalFailure()) return;
    }
}

TEST(ExtentMap, CutInTheMiddleSplitsAndAddingBackJoins) {
    ExtentMap map;
    map.add(run_of(1, 0, 0, 9), kSegmentBytes);
    map.cut(run_of(1, 3, 3, 3));
    EXPECT_EQ(map.size(), 2u);
    map.add(run_of(1, 3, 3, 3), kSegmentBytes);
    EXPECT_EQ(map.size(), 1u);
}

TEST(ExtentMap, NeverJoinsAcrossASegmentBorder) {
    ExtentMap map;
    map.add(run_of(1, 0, 0, 16), kSegmentBytes);
    map.add(run_of(1, 16, 16, 16), kSegmentBytes);
    EXPECT_EQ(map.size(), 2u);
}

TEST(ExtentMap, ReplicasAreSeparate) {
    ExtentMap map;
    map.add(run_of(1, 0, 0, 4), kSegmentBytes);
    EXPECT_FALSE(map.overlaps(1, FileRange(0, 4 * kPageBytes)));
    map.add(run_of(1, 0, 20, 4, 1), kSegmentBytes);
    map.add(run_of(1, 2, 40, 1, 3), kSegmentBytes);
    const auto found = map.overlapping(InodeNo(1), FileRange(2 * kPageBytes, 3 * kPageBytes));
    ASSERT_EQ(found.size(), 3u);
    EXPECT_EQ(found[0].replica, 0u);
    EXPECT_EQ(found[1].device_offset, 22 * kPageBytes);
    EXPECT_EQ(found[2].replica, 3u);
    EXPECT_TRUE(map.overlapping(InodeNo(1), FileRange(kPageBytes, kPageBytes)).empty());
}

TEST(ReverseMap, MetadataIsAnOwnerLikeAnother) {
    ReverseMap map(DeviceId(1), kSegmentBytes, kSegments);
    map.set_owner(SegmentNo(1), {SegmentOwner::Kind::SharedByUser, 0, {}});
    map.set_owner(SegmentNo(2), {SegmentOwner::Kind::Metadata, 0, {}});
    map.add(run_of(1, 0, 30, 2));
    std::vector<Located> located;
    map.locate(DeviceRange(0, UINT64_MAX), located);
    ASSERT_EQ(located.size(), 2u);
    EXPECT_FALSE(located[0].is_metadata);
    EXPECT_TRUE(located[1].is_metadata);
    EXPECT_EQ(located[1].device_range, DeviceRange(2 * kSegmentBytes, 3 * kSegmentBytes));
    EXPECT_EQ(map.metadata_segments(), 1u);
    located.clear();
    map.locate(DeviceRange(2 * kSegmentBytes + 100, 2 * kSegmentBytes + 200), located);
    ASSERT_EQ(located.size(), 1u);
    EXPECT_EQ(located[0].device_range.length(), 100u);
}

}  // namespace
}  // namespace refault::store
