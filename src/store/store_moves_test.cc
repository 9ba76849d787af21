// Moves: exact reservations, commit and abort, files that change meanwhile, isolation.
#include <gtest/gtest.h>

#include <algorithm>

#include "store/test_pool.h"

namespace refault::store {
namespace {

using base::Code;
using base::kPageBytes;
using namespace testing;

constexpr std::uint64_t kPiece = 8ull << 20;

std::uint64_t bytes_of(const std::vector<Move>& moves) {
    std::uint64_t sum = 0;
    for (const auto& move : moves) sum += move.from.length;
    return sum;
}

TEST(Moves, EvacuationEmptiesADevice) {
    TestPool pool;
    pool.create(3);
    std::map<InodeNo, std::uint64_t> files;
    for (int i = 0; i < 12; ++i) {
        const auto size = i % 3 == 0 ? 90000u + static_cast<unsigned>(i) * 7000
                                     : 3000u * static_cast<unsigned>(i + 1);
        files[pool.make_file("/f" + std::to_string(i), size, user(1000 + i % 2 ? 1u : 0u))] = size;
    }
    const auto a = pool.id("a");
    const auto held = pool.usage("a").data_bytes;
    ASSERT_GT(held, 0u);
    pool->set_leaving(a, true);
    const auto moves = pool->reserve_evacuation(a, kPiece);
    ASSERT_TRUE(moves.ok()) << moves.error().message();
    EXPECT_EQ(bytes_of(*moves), held);
    pool.expect_sound();
    for (const auto& move : *moves) {
        EXPECT_NE(move.to_device, a);
        EXPECT_TRUE(pool->is_current(move));
    }
    ASSERT_TRUE(pool.move(*moves).ok());
    pool.expect_sound();
    EXPECT_EQ(pool.usage("a").data_bytes, 0u);
    EXPECT_EQ(pool.usage("a").extents, 0u);
    for (const auto& [inode, size] : files)
        EXPECT_EQ(pool.content(inode), TestPool::pattern(inode, size));
    ASSERT_TRUE(pool->evacuate_metadata(a).ok());
    EXPECT_TRUE((*pool->device(a))->list_segments()->empty());
    pool.reopen();
    pool.expect_sound();
    for (const auto& [inode, size] : files)
        EXPECT_EQ(pool.content(inode), TestPool::pattern(inode, size));
}

TEST(Moves, SegmentsKeepTheirKindOfOwner) {
    TestPool pool;
    pool.create(2);
    const auto small = pool.make_file("/small", 5000, user(1000));
    const auto big = pool.make_file("/big", 100000, user(1000));
    ASSERT_TRUE(pool->set_owner("/small", 1001, 1001, root()).ok());
    for (const std::string name : {"a", "b"}) {
        pool->set_leaving(pool.id(name), true);
        const auto moves = pool->reserve_evacuation(pool.id(name), kPiece);
        ASSERT_TRUE(moves.ok());
        ASSERT_TRUE(pool.move(*moves).ok());
        pool->set_leaving(pool.id(name), false);
        for (const auto& extent : pool->extents(small, FileRange(0, 5000)))
            EXPECT_EQ(pool->segment_owner(
                              extent.device,
                              (*pool->device(extent.device))->segment_at(extent.device_offset))
                          ->uid,
                      1000u);
        for (const auto& extent : pool->extents(big, FileRange(0, 100000)))
            EXPECT_EQ(pool->segment_owner(
                              extent.device,
                              (*pool->device(extent.device))->segment_at(extent.device_offset))
                          ->inode,
                      big);
    }
    pool.expect_sound();
}

TEST(Moves, RefusedBeforeAnythingMovesWhenSpaceIsShort) {
    TestPool pool;
    pool.create(2);
    int files = 0;
    for (; pool.free_bytes() >= 3 * 64 * 1024; ++files)
        pool.make_file("/f" + std::to_string(files), 60000 + 1000);
    const auto a = pool.id("a");
    pool->set_leaving(a, true);
    const auto before = pool->usage();
    const auto refused = pool->reserve_evacuation(a, kPiece);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code(), Code::NoSpace);
    EXPECT_NE(refused.error().message().find("device a holds"), std::string::npos)
        << refused.error().message();
    const auto after = pool->usage();
    for (std::size_t i = 0; i < before.size(); ++i) {
        EXPECT_EQ(after[i].free_bytes, before[i].free_bytes);
        EXPECT_EQ(after[i].extents, before[i].extents);
    }
    pool.expect_sound();
    // With exactly as much room as is needed it fits, every move of it.
    const auto free_before = pool.free_bytes();
    while (!pool->reserve_evacuation(a, kPiece).ok()) {
        ASSERT_GT(files, 0);
        ASSERT_TRUE(pool->unlink("/f" + std::to_string(--files), root()).ok());
        if (pool.free_bytes() > free_before + pool.usage("a").data_bytes + 4 * 64 * 1024)
            FAIL() << "there is room";
    }
}

// Random pools: a reservation that is granted can be done to the end, one that is refused leaves no
// trace.
TEST(Moves, GrantedMeansPossible) {
    Random random(test_seed());
    int granted = 0;
    int refused = 0;
    // Until both have been seen.
    for (int round = 0; round < 25 || (round < 500 && (granted == 0 || refused == 0)); ++round) {
        TestPool pool;
        pool.create(3, {64 * 1024, 6 + static_cast<std::uint32_t>(random.below(6))});
        std::map<InodeNo, std::uint64_t> files;
        for (int i = 0; i < 40; ++i) {
            const auto size = 1 + random.below(random.one_in(3) ? 150000 : 20000);
            const auto path = "/f" + std::to_string(i);
            if (pool.free_bytes() < size + 2 * 64 * 1024) break;
            const auto inode =
                pool.make_file(path, size, user(1000 + static_cast<uid_t>(random.below(2))));
            files[inode] = size;
            if (random.one_in(4)) {
                ASSERT_TRUE(pool->unlink(path, root()).ok());
                files.erase(inode);
            }
        }
        const auto leaving = pool.id(std::string(1, static_cast<char>('a' + random.below(3))));
        pool->set_leaving(leaving, true);
        const auto free_before = pool.free_bytes();
        const auto moves = pool->reserve_evacuation(leaving, kPageBytes << random.below(8));
        pool.expect_sound();
        if (!moves) {
            ++refused;
            EXPECT_EQ(pool.free_bytes(), free_before);
            continue;
        }
        ++granted;
        // Nobody can take a reserved place.
        const auto made = pool->create_file("/filler", 0600, root());
        (void)pool->resize(made->inode, pool.free_bytes());
        for (std::size_t at = 0; at < moves->size();) {
            const auto end = std::min(moves->size(), at + 1 + random.below(5));
            const auto moved = pool.move(
                {moves->begin() + static_cast<long>(at), moves->begin() + static_cast<long>(end)});
            ASSERT_TRUE(moved.ok()) << moved.error().message();
            at = end;
        }
        for (const auto& usage : pool->usage())
            if (usage.id == leaving) {
                EXPECT_EQ(usage.data_bytes, 0u);
            }
        for (const auto& [inode, size] : files)
            EXPECT_EQ(pool.content(inode), TestPool::pattern(inode, size));
        pool.expect_sound();
    }
    EXPECT_GT(granted, 0);
    EXPECT_GT(refused + granted, 20);
}

TEST(Moves, PiecesKeepHugeAlignmentAndJoinAgain) {
    TestPool pool;
    pool.create(2, {8 << 20, 6});
    const auto made = pool->create_file("/f", 0600, root());
    ASSERT_TRUE(pool->resize(made->inode, 14 << 20).ok());
    const auto count_before = pool->extents(made->inode, FileRange(0, UINT64_MAX)).size();
    for (const std::string name : {"a", "b", "a"}) {
        const auto moves = pool->reserve_evacuation(pool.id(name), 4 << 20);
        ASSERT_TRUE(moves.ok()) << moves.error().message();
        for (const auto& move : *moves) {
            EXPECT_LE(move.from.length, 4u << 20);
            EXPECT_EQ(move.to_offset % base::kHugePageBytes,
                      move.from.file_offset % base::kHugePageBytes);
        }
        ASSERT_TRUE(pool.move(*moves).ok());
    }
    EXPECT_EQ(pool->extents(made->inode, FileRange(0, UINT64_MAX)).size(), count_before);
    pool.expect_sound();
}

TEST(Moves, AbortGivesEverythingBack) {
    TestPool pool;
    pool.create(2);
    const auto inode = pool.make_file("/f", 100000);
    pool.make_file("/s", 5000);
    const auto free_before = pool.room_bytes();
    for (const bool is_prepared : {false, true}) {
        const auto moves =
            pool->reserve_evacuation(pool->extents(inode, FileRange(0, 1)).at(0).device, kPiece);
        ASSERT_TRUE(moves.ok());
        EXPECT_LT(pool.room_bytes(), free_before);
        for (const auto& move : *moves) {
            if (!is_prepared) break;
            ASSERT_TRUE(pool->prepare_target(move).ok());
            ASSERT_TRUE((*pool->device(move.to_device))
                            ->write(move.to_offset, std::vector<std::uint8_t>(4096, 0xaa))
                            .ok());
        }
        pool->abort_moves(*moves);
        EXPECT_EQ(pool.room_bytes(), free_before);
        EXPECT_FALSE(pool->is_current(moves->at(0)));
        EXPECT_EQ(pool->prepare_target(moves->at(0)).error().code(), Code::Busy);
        EXPECT_EQ(pool->commit_moves(*moves).error().code(), Code::Busy);
        pool->abort_moves(*moves);  // once more is harmless
        pool.expect_sound();
    }
    EXPECT_EQ(pool.content(inode), TestPool::pattern(inode, 100000));
}

TEST(Moves, AbortedTargetInASharedSegmentIsZeroAgain) {
    TestPool pool;
    pool.create(2);
    const auto one = pool.make_file("/one", kPageBytes);
    const auto home = pool->extents(one, FileRange(0, 1)).at(0).device;
    pool->set_leaving(home, true);
    pool.make_file("/two", kPageBytes);
    pool->set_leaving(home, false);
    const auto moves = pool->reserve_evacuation(home, kPiece);
    ASSERT_TRUE(moves.ok());
    ASSERT_TRUE(pool->prepare_target((*moves)[0]).ok());
    ASSERT_TRUE((*pool->device((*moves)[0].to_device))
                    ->write((*moves)[0].to_offset, std::vector<std::uint8_t>(4096, 0xaa))
                    .ok());
    pool->abort_moves(*moves);
    pool->set_leaving(home, true);
    const auto next = pool->create_file("/next", 0600, root());
    ASSERT_TRUE(pool->resize(next->inode, 4 * kPageBytes).ok());
    const auto bytes = pool.content(next->inode);
    EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](auto byte) { return byte == 0; }));
}

TEST(Moves, OfAChangedFileAreBusyAndChangeNothing) {
    TestPool pool;
    pool.create(2);
    const auto cut = pool.make_file("/cut", 120000);
    const auto gone = pool.make_file("/gone", 8000);
    const auto stays = pool.make_file("/stays", 8000);
    std::vector<Move> all;
    for (const std::string name : {"a", "b"}) {
        const auto moves = pool->reserve_evacuation(pool.id(name), kPageBytes * 4);
        ASSERT_TRUE(moves.ok());
        all.insert(all.end(), moves->begin(), moves->end());
    }
    for (const auto& move : all) ASSERT_TRUE(pool->prepare_target(move).ok());
    ASSERT_TRUE(pool->resize(cut, 50000).ok());
    ASSERT_TRUE(pool->unlink("/gone", root()).ok());
    std::vector<Move> current;
    for (const auto& move : all) {
        const bool expected = move.from.inode == stays ||
                              (move.from.inode == cut && move.from.file_range().end() <= 53248);
        EXPECT_EQ(pool->is_current(move), expected);
        if (expected) current.push_back(move);
    }
    ASSERT_LT(current.size(), all.size());
    EXPECT_EQ(pool->commit_moves(all).error().code(), Code::Busy);
    pool.expect_sound();
    std::vector<Move> outdated;
    for (const auto& move : all)
        if (!pool->is_current(move)) outdated.push_back(move);
    pool->abort_moves(outdated);
    ASSERT_TRUE(pool.move(current).ok());
    EXPECT_EQ(pool->stat(gone).error().code(), Code::NotFound);
    auto pattern = TestPool::pattern(cut, 50000);
    EXPECT_EQ(pool.content(cut), pattern);
    EXPECT_EQ(pool.content(stays), TestPool::pattern(stays, 8000));
    pool.expect_sound();
}

TEST(Moves, OldPlaceIsNotGivenAwayBeforeItIsReleased) {
    TestPool pool;
    pool.create(2);
    const auto inode = pool.make_file("/f", 64 * 1024);
    const auto home = pool->extents(inode, FileRange(0, 1)).at(0).device;
    const auto moves = *pool->reserve_evacuation(home, kPiece);
    for (const auto& move : moves) ASSERT_TRUE(pool->prepare_target(move).ok());
    const auto free_before = pool.room_bytes();
    ASSERT_TRUE(pool->commit_moves(moves).ok());
    EXPECT_EQ(pool.room_bytes(), free_before);
    EXPECT_TRUE((*pool->device(home))
                    ->has_segment((*pool->device(home))->segment_at(moves[0].from.device_offset)));
    EXPECT_EQ(pool->remove_device(home).error().code(), Code::Busy);
    pool.expect_sound();
    ASSERT_TRUE(pool->release_moved(moves).ok());
    EXPECT_EQ(pool.room_bytes(), free_before + 64 * 1024);
    EXPECT_FALSE((*pool->device(home))
                     ->has_segment((*pool->device(home))->segment_at(moves[0].from.device_offset)));
    pool.expect_sound();
}

TEST(Moves, ReservedAgainWhenTheTargetLeavesToo) {
    TestPool pool;
    pool.create(3);
    const auto inode = pool.make_file("/f", 60000);
    const auto home = pool->extents(inode, FileRange(0, 1)).at(0).device;
    auto moves = *pool->reserve_evacuation(home, kPiece);
    ASSERT_EQ(moves.size(), 1u);
    const auto free_before = pool.room_bytes();
    const auto target = moves[0].to_device;
    pool->set_leaving(target, true);
    EXPECT_FALSE(pool->is_current(moves[0]));
    const auto again = pool->reserve_again(moves[0]);
    ASSERT_TRUE(again.ok()) << again.error().message();
    EXPECT_NE(again->to_device, target);
    EXPECT_NE(again->to_device, home);
    EXPECT_TRUE(pool->is_current(*again));
    EXPECT_EQ(pool->reserve_again(moves[0]).error().code(), Code::Busy);
    // No third device: refused, and the reservation stays as it is.
    pool->set_leaving(again->to_device, true);
    EXPECT_EQ(pool->reserve_again(*again).error().code(), Code::NoSpace);
    pool->set_leaving(again->to_device, false);
    EXPECT_TRUE(pool->is_current(*again));
    pool->set_leaving(target, false);
    EXPECT_EQ(pool.room_bytes(), free_before);
    ASSERT_TRUE(pool.move({*again}).ok());
    EXPECT_EQ(pool.content(inode), TestPool::pattern(inode, 60000));
    pool.expect_sound();
}

TEST(Moves, IsolationGivesAFileSegmentsOfItsOwn) {
    TestPool pool;
    pool.create(2);
    const auto one = pool.make_file("/one", 20000, user(1000));
    const auto two = pool.make_file("/two", 20000, user(1000));
    const auto moves = pool->reserve_isolation(one, kPiece);
    ASSERT_TRUE(moves.ok());
    EXPECT_EQ(bytes_of(*moves), 20480u);
    ASSERT_TRUE(pool.move(*moves).ok());
    EXPECT_TRUE(pool->reserve_isolation(one, kPiece)->empty());
    const auto extent = pool->extents(one, FileRange(0, 1)).at(0);
    const auto owner = pool->segment_owner(
        extent.device, (*pool->device(extent.device))->segment_at(extent.device_offset));
    EXPECT_EQ(*owner, (SegmentOwner{SegmentOwner::Kind::Exclusive, 0, one}));
    EXPECT_EQ(pool.content(one), TestPool::pattern(one, 20000));
    EXPECT_EQ(pool.content(two), TestPool::pattern(two, 20000));
    EXPECT_EQ(pool->reserve_isolation(InodeNo(99), kPiece).error().code(), Code::NotFound);
    pool.expect_sound();
}

}  // namespace
}  // namespace refault::store
