// Steps of files, of moves and of devices.
#include "tests/power_cut/pool_steps.h"

#include "base/units.h"

namespace refault::power_cut {

using base::DeviceId;
using base::kPageBytes;
using store::Extent;
using store::FailureKind;
using store::Move;

#define MUST(expression)                                                           \
    do {                                                                           \
        const auto& done_ = (expression);                                          \
        ASSERT_TRUE(done_.ok()) << #expression << ": " << done_.error().message(); \
    } while (false)

void PoolSteps::create(const std::vector<std::string>& directories) {
    recording_.now().is_being_made = true;
    recording_.step({"create a pool",
                     {},
                     [&] {
                         std::vector<store::DevicePtr> devices;
                         for (const auto& name : directories)
                             devices.push_back(recording_.make_device(name));
                         auto made = Store::create("pool", devices, {});
                         MUST(made);
                         recording_.store = std::move(*made);
                     },
                     [&] { recording_.now().is_being_made = false; }});
}

void PoolSteps::reopen(const std::vector<std::string>& directories, bool allow_missing) {
    recording_.step("open the pool", [&] {
        recording_.store.reset();
        std::vector<store::DevicePtr> devices;
        for (const auto& name : directories) devices.push_back(recording_.open_device(name));
        auto opened = Store::open(devices, allow_missing);
        MUST(opened);
        recording_.store = std::move(*opened);
    });
}

InodeNo PoolSteps::make_file(const std::string& path, std::uint32_t copies) {
    InodeNo inode;
    step("create " + path, [&] {
        const auto made = store().create_file(path, 0644, {});
        MUST(made);
        inode = made->inode;
    });
    if (copies > 1)
        step("copies of " + path, [&] { MUST(store().set_redundancy(path, {copies, {}}, {})); });
    return inode;
}

// What is added reads as zeros.
void PoolSteps::resized(InodeNo inode, std::uint64_t size_bytes) {
    bytes(inode).resize(base::align_up(size_bytes, kSectorBytes) / kSectorBytes, {0});
}

void PoolSteps::resize(InodeNo inode, std::uint64_t size_bytes) {
    recording_.step({"resize",
                     {},
                     [&] {
                         const auto layout = store().lock_layout(inode);
                         MUST(store().resize(inode, size_bytes));
                     },
                     [&] { resized(inode, size_bytes); }});
}

void PoolSteps::set_size(InodeNo inode, std::uint64_t size_bytes) {
    recording_.step({"set the size",
                     {},
                     [&] {
                         const auto layout = store().lock_layout(inode);
                         MUST(store().set_size(inode, size_bytes));
                     },
                     [&] { resized(inode, size_bytes); }});
}

// Each sector is as it was or new until the file is synced.
void PoolSteps::write(InodeNo inode, FileRange range) {
    const auto version = next_version_++;
    const auto copies = store().stat(inode)->replicas;
    recording_.step(
        {"write",
         [&] {
             resized(inode, std::max(range.end(), store().stat(inode)->size_bytes));
             for (auto at = range.begin() / kSectorBytes; at < range.end() / kSectorBytes; ++at)
                 bytes(inode)[at].insert(version);
         },
         [&] {
             const auto layout = store().lock_layout(inode);
             if (copies > 1) MUST(store().set_unsynced(inode, true));
             MUST(store().write_growing(inode, range.begin(), bytes_of(inode, version, range)));
         },
         {}});
}

void PoolSteps::sync(InodeNo inode) {
    recording_.step({"sync",
                     {},
                     [&] {
                         const auto layout = store().lock_layout(inode);
                         MUST(store().sync(inode, FileRange(0, UINT64_MAX)));
                     },
                     [&] {
                         for (auto& sector : bytes(inode)) sector = {*sector.rbegin()};
                     }});
    step("copies are equal", [&] { MUST(store().set_unsynced(inode, false)); });
}

void PoolSteps::deallocate(InodeNo inode, FileRange range) {
    const auto clear = [&](bool is_durable) {
        for (auto at = range.begin() / kSectorBytes; at < range.end() / kSectorBytes; ++at) {
            if (is_durable) bytes(inode)[at].clear();
            bytes(inode)[at].insert(0);
        }
    };
    recording_.step({"deallocate", [&] { clear(false); },
                     [&] {
                         const auto layout = store().lock_layout(inode);
                         MUST(store().deallocate(inode, range));
                     },
                     [&] { clear(true); }});
}

void PoolSteps::allocate(InodeNo inode, FileRange range) {
    step("allocate", [&] {
        const auto layout = store().lock_layout(inode);
        MUST(store().allocate(inode, range));
    });
}

// Durable with the next sync, as a write of zeros is; but the highest version is taken for the
// latest then, so the two are one step here.
void PoolSteps::punch(InodeNo inode, FileRange range) {
    recording_.step(
        {"punch and sync",
         [&] {
             for (auto at = range.begin() / kSectorBytes; at < range.end() / kSectorBytes; ++at)
                 bytes(inode)[at].insert(0);
         },
         [&] {
             const auto layout = store().lock_layout(inode);
             MUST(store().punch(inode, range));
             MUST(store().sync(inode, FileRange(0, UINT64_MAX)));
         },
         [&] {
             for (auto& sector : bytes(inode)) sector = {*sector.rbegin()};
             for (auto at = range.begin() / kSectorBytes; at < range.end() / kSectorBytes; ++at)
                 bytes(inode)[at] = {0};
         }});
}

void PoolSteps::unlink(const std::string& path) {
    step("unlink " + path, [&] { MUST(store().unlink(path, {})); });
}

InodeNo PoolSteps::make_full_file(const std::string& path, std::uint64_t size_bytes,
                                  std::uint32_t copies) {
    const auto inode = make_file(path, copies);
    resize(inode, size_bytes);
    write(inode, FileRange(0, size_bytes));
    sync(inode);
    return inode;
}

void PoolSteps::move(const std::string& name, const std::vector<Move>& moves) {
    step(name + ": copy", [&] {
        for (const auto& move : moves) {
            MUST(store().prepare_target(move));
            auto& from = **store().device(move.from.device);
            auto& to = **store().device(move.to_device);
            if (move.has_old_bytes)
                MUST(device::copy_changed(from, move.from.device_range(), to, move.to_offset));
            else
                MUST(device::copy_range(from, move.from.device_range(), to, move.to_offset));
            MUST(to.sync(base::DeviceRange::of_length(move.to_offset, move.from.length),
                         device::DurableWrite::FileCopy));
        }
    });
    step(name + ": commit", [&] { MUST(store().commit_moves(moves)); });
    std::vector<Move> moved(moves);
    std::erase_if(moved, [](const Move& move) { return move.copy_as.has_value(); });
    step(name + ": release", [&] {
        for (const auto& move : moved)
            MUST((*store().device(move.from.device))->punch(move.from.device_range()));
        MUST(store().release_moved(moved));
    });
}

void PoolSteps::make_copies(InodeNo inode) {
    const auto plan = store().reserve_copies(inode, 1 << 20);
    MUST(plan);
    move("make copies", plan->moves);
}

void PoolSteps::repair(InodeNo inode, std::uint64_t offset, std::uint32_t replica) {
    step("repair", [&] {
        const auto page = FileRange::of_length(offset, kPageBytes);
        std::vector<std::uint8_t> good(kPageBytes);
        Extent bad;
        for (const auto& extent : store().extents(inode, page)) {
            if (extent.replica == replica)
                bad = extent;
            else
                MUST((*store().device(extent.device))->read(extent.device_offset, good));
        }
        auto& device = **store().device(bad.device);
        MUST(store().begin_repair(bad));
        MUST(device.punch(bad.device_range()));
        MUST(device.write(bad.device_offset, good));
        MUST(device.sync(bad.device_range()));
        MUST(store().end_repair(bad));
        MUST(store().set_unsynced(inode, false));
    });
}

DeviceId PoolSteps::id(const std::string& directory) {
    const auto found = store().find_device(directory);
    EXPECT_TRUE(found.ok()) << directory;
    return found ? *found : DeviceId();
}

void PoolSteps::add(const std::string& directory) {
    recording_.now().tombstones.erase(directory);
    step("add " + directory, [&] { MUST(store().add_device(recording_.make_device(directory))); });
}

void PoolSteps::pull(const std::string& directory) {
    const auto device = id(directory);
    store().set_leaving(device, true);
    step("pull " + directory + ": metadata", [&] { MUST(store().evacuate_metadata(device)); });
    const auto moves = store().reserve_evacuation(device, 1 << 20);
    MUST(moves);
    move("pull " + directory, *moves);
    recording_.step({"pull " + directory + ": tombstone",
                     {},
                     [&] { MUST(store().remove_device(device)); },
                     [&] { recording_.now().tombstones.insert(directory); }});
}

void PoolSteps::yank(const std::string& directory) {
    const auto device = id(directory);
    recording_.now().gone.insert(directory);
    recording_.now().is_being_lost = true;
    recording_.step({"yank " + directory,
                     {},
                     [&] {
                         store().set_failed(device);
                         MUST(store().evacuate_metadata(device));
                         std::vector<Extent> parts;
                         const base::DeviceRange all(0, kSegmentBytes * kSegments);
                         for (const auto& at : store().locate(device, all))
                             parts.push_back({at.inode, at.file_range.begin(), device,
                                              at.device_range.begin(), at.file_range.length(),
                                              at.replica});
                         MUST(store().drop_copies(parts, FailureKind::SurpriseRemoval));
                         std::vector<Move> dropped;
                         for (const auto& part : parts) dropped.push_back({part, {}, 0, {}});
                         MUST(store().release_moved(dropped));
                         MUST(store().remove_device(device));
                     },
                     [&] { recording_.now().is_being_lost = false; }});
}

void PoolSteps::rejoin(const std::string& directory) {
    recording_.now().gone.erase(directory);
    recording_.now().coming_back = directory;
    std::vector<Move> copies;
    recording_.step({"rejoin " + directory,
                     {},
                     [&] {
                         auto joined = store().rejoin_device(recording_.open_device(directory));
                         MUST(joined);
                         copies = joined->copies;
                     },
                     [&] { recording_.now().coming_back.clear(); }});
    move("bring up to date", copies);
}

void PoolSteps::place_on(const std::string& directory) {
    for (const auto& usage : store().usage())
        store().set_leaving(usage.id, usage.name != directory);
}

void PoolSteps::place_anywhere() {
    for (const auto& usage : store().usage()) store().set_leaving(usage.id, false);
}

}  // namespace refault::power_cut
