// What is recorded, step by step.
#include "tests/power_cut/workload.h"

#include <unistd.h>

#include "store/tree.h"
#include "tests/power_cut/pool_steps.h"

namespace refault::power_cut {

using device::DurableWrite;
using store::FailureKind;

#define MUST(expression)                                                           \
    do {                                                                           \
        const auto& done_ = (expression);                                          \
        ASSERT_TRUE(done_.ok()) << #expression << ": " << done_.error().message(); \
    } while (false)

void record_files(Recording& recording) {
    PoolSteps pool(recording);
    pool.create({"a", "b", "c"});
    pool.step("make a directory", [&] { MUST(pool.store().make_directory("/d", 0755, {})); });
    const auto one = pool.make_full_file("/d/one", 40 * 1024);
    const auto two = pool.make_full_file("/two", 24 * 1024, 2);
    pool.write(one, FileRange(4096, 12 * 1024));
    pool.write(two, FileRange(2048, 10 * 1024));
    pool.step("rename", [&] { MUST(pool.store().rename("/d/one", "/one", {})); });
    pool.step("mode", [&] { MUST(pool.store().set_mode("/one", 0600, {})); });
    pool.sync(two);
    pool.write(one, FileRange(40 * 1024, 56 * 1024));
    pool.sync(one);
    // Space that is given back goes to others.
    pool.place_on("a");
    const auto first = pool.make_full_file("/first", 8 * 1024);
    const auto keeps = pool.make_full_file("/keeps", 8 * 1024);
    pool.deallocate(first, FileRange(0, 4096));
    pool.deallocate(keeps, FileRange(4096, 8 * 1024));
    const auto next = pool.make_file("/next");
    pool.resize(next, 16 * 1024);
    pool.unlink("/first");
    const auto third = pool.make_full_file("/third", 12 * 1024);
    pool.set_size(third, 4096);
    pool.set_size(third, 12 * 1024);
    pool.allocate(third, FileRange(4096, 12 * 1024));
    pool.place_anywhere();
    pool.punch(one, FileRange(8 * 1024, 16 * 1024));
    pool.step("populate", [&] { MUST(pool.store().populate(next, FileRange(0, 16 * 1024))); });
    // Renamed over, and unlinked while somebody has it open.
    pool.step("rename over", [&] { MUST(pool.store().rename("/third", "/next", {})); });
    pool.step("unlink while open", [&] {
        MUST(pool.store().pin(keeps));
        MUST(pool.store().unlink("/keeps", {}));
    });
    pool.step("close", [&] { pool.store().unpin(keeps); });
    pool.step("attribute", [&] {
        MUST(store::Tree(pool.store())
                 .set_attribute(one, "user.x", std::vector<std::uint8_t>(700, 1),
                                store::Tree::SetMode::Any));
    });
    // Copies, and memory that fails.
    pool.step("two copies", [&] { MUST(pool.store().set_redundancy("/one", {2, {}}, {})); });
    pool.make_copies(one);
    pool.repair(two, 4096, 0);
    pool.repair(two, 8192, 1);
    const auto bad = pool.make_full_file("/bad", 12 * 1024);
    const auto page = FileRange::of_length(4096, 4096);
    pool.step("poison", [&] {
        MUST(pool.store().mark_lost(pool.store().extents(bad, page).front(), FailureKind::Poison));
    });
    pool.recording().step({"heal",
                           [&] {
                               for (auto i = 8; i < 16; ++i)
                                   recording.now().bytes[bad][static_cast<std::size_t>(i)] = {0};
                           },
                           [&] { MUST(pool.store().heal(bad, page)); },
                           {}});
    pool.write(bad, page);
    pool.sync(bad);
    pool.reopen({"a", "b", "c"});
    pool.unlink("/one");
    pool.unlink("/two");
}

void record_devices(Recording& recording) {
    PoolSteps pool(recording);
    pool.create({"a", "b", "c"});
    const auto one = pool.make_full_file("/one", 24 * 1024);
    const auto two = pool.make_full_file("/two", 24 * 1024, 2);
    pool.add("d");
    pool.place_on("b");
    const auto lone = pool.make_full_file("/lone", 16 * 1024);
    pool.place_anywhere();
    // Emptied and taken out, then used anew.
    pool.pull("a");
    pool.add("a");
    // Lost, and back again: what was only there is there again, copies are brought up to date.
    pool.yank("b");
    pool.step("metadata on two devices", [&] { MUST(pool.store().ensure_metadata_copies()); });
    pool.write(two, FileRange(0, 8 * 1024));
    pool.sync(two);
    pool.make_copies(two);
    pool.rejoin("b");
    pool.write(lone, FileRange(0, 4096));
    pool.sync(lone);
    pool.write(one, FileRange(0, 4096));
    pool.sync(one);
    // Missing when the pool is opened.
    recording.now().gone.insert("c");
    recording.now().is_being_lost = true;
    pool.reopen({"a", "b", "d"}, /*allow_missing=*/true);
    recording.now().is_being_lost = false;
    pool.make_copies(two);
    // Devices leave with their files.
    pool.add("e");
    pool.add("f");
    pool.place_on("e");
    pool.make_full_file("/away", 16 * 1024);
    pool.place_on("f");
    pool.make_full_file("/away, too", 8 * 1024);
    pool.place_anywhere();
    const store::DeviceSet leaving{pool.id("e"), pool.id("f")};
    for (const auto id : leaving) pool.store().set_leaving(id, true);
    for (const auto id : leaving)
        pool.step("metadata off", [&] { MUST(pool.store().evacuate_metadata(id)); });
    const auto all = view_of(pool.store());
    recording.now().leaving = {"e", "f"};
    for (const std::string path : {"/away", "/away, too"})
        recording.now().leaving_view[path] = all.at(path);
    recording.step({"hand over",
                    {},
                    [&] { MUST(pool.store().export_devices(leaving, "other")); },
                    [&] { recording.now().has_left = true; }});
    pool.unlink("/two");
    recording.step(
        {"wipe",
         [&] {
             recording.now().leaving.clear();
             recording.now().gone.insert({"e", "f"});
         },
         [&] { MUST(device::Device::wipe(recording.spec("e"), recording.trace_of("e"))); },
         {}});
}

void record_log(Recording& recording) {
    PoolSteps pool(recording);
    pool.create({"a", "b"});
    const auto file = pool.make_full_file("/file", 8 * 1024);
    const auto grow = [&](int i) {
        pool.step("attribute", [&] {
            MUST(store::Tree(pool.store())
                     .set_attribute(file, "user." + std::to_string(i % 5),
                                    std::vector<std::uint8_t>(static_cast<std::size_t>(900 + i), 1),
                                    store::Tree::SetMode::Any));
        });
    };
    for (int i = 0; i < 12; ++i) grow(i);
    pool.step("a checkpoint", [&] { MUST(pool.store().rewrite_metadata()); });
    for (int i = 12; i < 15; ++i) grow(i);
    // No copy takes the record: the files are cut behind our back for a moment.
    pool.step("an append that fails", [&] {
        std::vector<std::pair<std::string, off_t>> cut;
        for (const char* name : {"a", "b"}) {
            const auto label = *(*pool.store().device(pool.id(name)))->read_label();
            char file_name[16];
            std::snprintf(file_name, sizeof file_name, "seg-%05u",
                          label.metadata_segments.back().raw());
            cut.emplace_back(recording.directory() + "/" + name + "/" + file_name, kSegmentBytes);
        }
        for (const auto& [path, size] : cut) ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
        EXPECT_FALSE(pool.store().set_mode("/file", 0640, {}).ok());
    });
    for (int i = 15; i < 18; ++i) grow(i);
    pool.reopen({"a", "b"});
    grow(18);
}

}  // namespace refault::power_cut
