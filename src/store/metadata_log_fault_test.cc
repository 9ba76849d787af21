// Devices that fail: the log goes on with the other copy, says which failed, and no copy that
// missed something ever wins.
//
// Each checkpoint's image is all that was acknowledged before, so whatever epoch is read,
// checkpoint and transactions together must be what was acknowledged, plus at most one of the
// appends that failed since: a copy that could neither be wiped nor be given up may keep it.
#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>

#include "store/test_faults.h"
#include "store/test_log.h"

namespace refault::store::testing {
namespace {

namespace fs = std::filesystem;
using base::Code;
using Ids = std::vector<DeviceId>;

// A log in use, and what must be read of it.
class Pool {
  public:
    explicit Pool(std::size_t count, Shape shape = {4096, 64}) : devices(count, shape) {}

    bool append(const Bytes& payload) {
        const bool is_done = log->append(payload).ok();
        if (is_done) {
            acknowledged.push_back(payload);
            failed_since.clear();
        } else {
            failed_since.push_back(payload);
        }
        return is_done;
    }
    bool checkpoint(const std::vector<std::size_t>& copies) {
        const bool is_done =
            log->checkpoint(devices.copies(copies), acknowledged, first_epoch).ok();
        if (is_done) failed_since.clear();
        return is_done;
    }
    // As the daemon does after a crash: a new log, whose first checkpoint follows what was read.
    void reopen(const std::vector<std::size_t>& copies) {
        const auto history = MetadataLog::read_longest(devices.all());
        ASSERT_TRUE(history.ok()) << history.error().message();
        first_epoch = history->epoch + 1;
        acknowledged = flat(*history);
        log = std::make_unique<MetadataLog>(devices.uuid, space);
        ASSERT_TRUE(checkpoint(copies));
        for (const auto& device : devices.all()) {
            auto label = *device->read_label();
            if (label.metadata_epoch == log->epoch() || label.metadata_segments.empty()) continue;
            label.metadata_segments.clear();
            ASSERT_TRUE(device->write_label(label).ok());
        }
        const auto listed = space.listed();
        for (const auto& [device, segment] : std::set(space.taken))
            if (!listed.contains({device, segment})) space.give_back(device, segment);
    }
    static std::vector<Bytes> flat(const MetadataLog::History& history) {
        auto all = history.checkpoint;
        all.insert(all.end(), history.transactions.begin(), history.transactions.end());
        return all;
    }
    // Reads other Device objects, so that what this log's devices believe does not help; in both
    // orders.
    void expect_readable(const std::string& where) const {
        const TempDirectory view;
        for (const auto& device : devices.all()) {
            fs::create_directory(view.path() / device->name());
            for (const auto& entry : fs::directory_iterator(device->directory()))
                if (entry.path().filename() != "lock")
                    fs::create_hard_link(entry.path(),
                                         view.path() / device->name() / entry.path().filename());
        }
        auto members = open_all(view.path());
        std::sort(members.begin(), members.end(),
                  [](const auto& a, const auto& b) { return a->name() < b->name(); });
        for (int order = 0; order < 2; ++order) {
            const auto history = MetadataLog::read_longest(members);
            ASSERT_TRUE(history.ok()) << where << ": " << history.error().message();
            auto read = flat(*history);
            if (read.size() > acknowledged.size()) {
                ASSERT_TRUE(std::find(failed_since.begin(), failed_since.end(), read.back()) !=
                            failed_since.end())
                    << where;
                read.pop_back();
            }
            ASSERT_TRUE(read == acknowledged) << where;
            std::reverse(members.begin(), members.end());
        }
    }
    // Segments of copies in use are listed, and no others are out.
    void expect_no_leak() const {
        std::set<std::pair<DeviceId, SegmentNo>> in_use;
        const auto copies = log->copies();
        for (const auto& key : space.listed())
            if (std::find(copies.begin(), copies.end(), key.first) != copies.end())
                in_use.insert(key);
        EXPECT_EQ(space.taken, in_use);
    }

    LogDevices devices;
    PlainSpace space{devices};
    std::unique_ptr<MetadataLog> log = std::make_unique<MetadataLog>(devices.uuid, space);
    std::uint64_t first_epoch = 1;
    std::vector<Bytes> acknowledged;
    std::vector<Bytes> failed_since;
};

struct Plan {
    std::string device;  // the only one that fails; empty: any
    Verdict verdict;
    bool is_lasting;  // fails from then on, not once
    std::string text() const {
        return "device '" + device + "' errno " + std::to_string(verdict.error) +
               (is_lasting ? " lasting" : " once") + (verdict.has_effect ? " with effect" : "") +
               (verdict.torn_bytes > 0 ? " torn" : "");
    }
};

// Runs the same life of a pool with the n-th changing call failing. False when there are fewer
// calls.
bool run_with_fault(const Plan& plan, int n) {
    const auto where = plan.text() + ", call " + std::to_string(n);
    Pool pool(3);
    EXPECT_TRUE(pool.checkpoint({0, 1}));
    int count = 0;
    {
        const CallWatch watch([&](const CallEvent& event) {
            const bool counts =
                event.is_change() &&
                event.path.starts_with((pool.devices.directory() / plan.device).string());
            if (counts) ++count;
            return counts && (count == n || (plan.is_lasting && count > n)) ? plan.verdict
                                                                            : Verdict{};
        });
        const std::vector<std::vector<std::size_t>> copies = {{0, 1}, {1, 2}, {0, 1}};
        std::uint64_t number = 0;
        for (const auto& next : copies) {
            for (int i = 0; i < 8; ++i, ++number) {
                const bool is_done =
                    pool.append(Bytes(number * 331 % 1500, static_cast<std::uint8_t>(number)));
                // One device, or one call, must not stop the log.
                EXPECT_TRUE(is_done || (plan.device.empty() && plan.is_lasting)) << where;
                if (!is_done) pool.expect_readable(where);
            }
            pool.expect_readable(where);
            pool.checkpoint(next);
            pool.expect_readable(where);
        }
    }
    for (const auto id : pool.log->failed_copies())
        EXPECT_TRUE(plan.device.empty() || pool.devices[id.raw() - 1]->name() == plan.device)
            << where;
    EXPECT_TRUE(pool.checkpoint({0, 2})) << where;
    EXPECT_TRUE(pool.append(numbered(1))) << where;
    EXPECT_EQ(pool.log->failed_copies(), Ids{});
    pool.expect_readable(where);
    pool.expect_no_leak();
    return count >= n;
}

class LogFaultTest : public ::testing::TestWithParam<Plan> {};

TEST_P(LogFaultTest, EveryCallInTurn) {
    int n = 1;
    while (run_with_fault(GetParam(), n) && !HasFailure()) ++n;
    EXPECT_GT(n, 40) << "the life of the pool is too short for this test";
}

INSTANTIATE_TEST_SUITE_P(
    Plans, LogFaultTest,
    ::testing::Values(Plan{"b", {EIO, false, 0}, true}, Plan{"b", {ENOSPC, false, 0}, false},
                      Plan{"b", {EIO, true, 0}, true}, Plan{"b", {EIO, true, 0}, false},
                      Plan{"b", {EIO, false, 9}, true}, Plan{"", {EIO, false, 0}, false},
                      Plan{"", {EIO, true, 0}, false}, Plan{"", {EIO, false, 25}, false},
                      Plan{"", {ENOSPC, false, 0}, true}, Plan{"", {EIO, true, 0}, true}));

// Random lives, without faults and with many. What is acknowledged is never lost, whatever fails
// and when.
void live_at_random(Random& random, std::uint64_t fault_in) {
    Pool pool(4, {4096, 40});
    const auto some_copies = [&] {
        std::vector<std::size_t> copies;
        for (std::size_t i = 0; i < 4; ++i)
            if (random.one_in(2)) copies.push_back(i);
        if (copies.empty()) copies.push_back(random.below(4));
        return copies;
    };
    ASSERT_TRUE(pool.checkpoint(some_copies()));
    for (int step = 0; step < 60; ++step) {
        const auto what = random.below(10);
        {
            const CallWatch watch([&](const CallEvent& event) {
                if (fault_in == 0 || !event.is_change() || !random.one_in(fault_in))
                    return Verdict{};
                return Verdict{random.one_in(2) ? EIO : ENOSPC, random.one_in(3),
                               random.one_in(2) ? random.below(30) : 0};
            });
            bool is_done = true;
            if (what < 8)
                is_done = pool.append(Bytes(random.below(1500), static_cast<std::uint8_t>(step)));
            if (what == 8) is_done = pool.checkpoint(some_copies());
            ASSERT_TRUE(is_done || fault_in > 0);
        }
        if (what == 9 && random.one_in(2)) {
            ASSERT_NO_FATAL_FAILURE(pool.reopen(some_copies()));
            pool.expect_no_leak();
        }
        if (pool.log->copies().empty()) {
            ASSERT_TRUE(pool.checkpoint(some_copies()));
        }
        ASSERT_NO_FATAL_FAILURE(pool.expect_readable("step " + std::to_string(step)));
        if (fault_in == 0) pool.expect_no_leak();
    }
}

TEST(LogRandom, WithoutFaults) {
    Random random(test_seed());
    for (int i = 0; i < 40 && !::testing::Test::HasFailure(); ++i) live_at_random(random, 0);
}

TEST(LogRandom, WithFewFaults) {
    Random random(test_seed());
    for (int i = 0; i < 40 && !::testing::Test::HasFailure(); ++i) live_at_random(random, 40);
}

TEST(LogRandom, WithManyFaults) {
    Random random(test_seed());
    for (int i = 0; i < 80 && !::testing::Test::HasFailure(); ++i) live_at_random(random, 5);
}

TEST(LogFailedCopy, IsNamedAndItsLabelIsCleared) {
    Pool pool(2);
    ASSERT_TRUE(pool.checkpoint({0, 1}));
    ASSERT_TRUE(pool.append(numbered(0)));
    {
        const CallWatch watch([](const CallEvent& event) {
            return Verdict{
                event.call == Call::Write && event.path.find("/b/seg") != std::string::npos ? EIO
                                                                                            : 0};
        });
        ASSERT_TRUE(pool.append(numbered(1)));
        ASSERT_TRUE(pool.append(numbered(2)));
    }
    EXPECT_EQ(pool.log->copies(), Ids{DeviceId(1)});
    EXPECT_EQ(pool.log->failed_copies(), Ids{DeviceId(2)});
    EXPECT_TRUE(pool.devices[1]->read_label()->metadata_segments.empty());
    pool.expect_no_leak();
    pool.expect_readable("afterwards");
}

TEST(LogFailedCopy, WithAStaleLabelDoesNotWin) {
    for (const bool a_fails : {false, true}) {
        Pool pool(2);
        ASSERT_TRUE(pool.checkpoint({0, 1}));
        ASSERT_TRUE(pool.append(numbered(0)));
        {
            const CallWatch watch([&](const CallEvent& event) {
                return Verdict{event.path.starts_with(
                                   (pool.devices.directory() / (a_fails ? "a" : "b")).string())
                                   ? EIO
                                   : 0};
            });
            for (std::uint64_t i = 1; i < 40; ++i) ASSERT_TRUE(pool.append(numbered(i)));
        }
        EXPECT_FALSE(pool.devices[a_fails ? 0 : 1]->read_label()->metadata_segments.empty());
        pool.expect_readable("after appends");
        ASSERT_TRUE(pool.checkpoint({a_fails ? 1u : 0u}));
        EXPECT_TRUE(pool.devices[a_fails ? 0 : 1]->read_label()->metadata_segments.empty());
        pool.expect_no_leak();
    }
}

// An append that failed everywhere and could not be undone on b must not come back when another one
// took its place.
TEST(LogFailedCopy, AnAppendThatFailedDoesNotReplaceALaterOne) {
    for (const std::size_t failed_length : {10u, 200u, 1000u}) {
        Pool pool(2);
        ASSERT_TRUE(pool.checkpoint({0, 1}));
        ASSERT_TRUE(pool.append(numbered(0)));
        {
            const CallWatch watch([&](const CallEvent& event) {
                const bool on_b = event.path.starts_with((pool.devices.directory() / "b").string());
                if (event.call == Call::Write && event.path.find("seg") != std::string::npos)
                    return Verdict{EIO, on_b};  // b has the record and says that it has not
                return Verdict{on_b ? EIO : 0};
            });
            ASSERT_FALSE(pool.append(Bytes(failed_length, 'x')));
        }
        EXPECT_EQ(pool.log->copies(), Ids{DeviceId(1)});
        EXPECT_EQ(pool.log->failed_copies(), Ids{DeviceId(2)});
        pool.expect_readable("with the failed append");
        ASSERT_TRUE(pool.append(Bytes(200, 'y')));
        pool.expect_readable("after the next append");
        ASSERT_TRUE(pool.append(Bytes(10, 'z')));
        pool.expect_readable("after one more");
    }
}

TEST(LogFailedCopy, AFullFilesystemCostsItsCopyAlone) {
    device::DeviceSpec spec;
    spec.name = "full";
    spec.kind = device::DeviceKind::Ram;
    spec.size_bytes = 2 << 20;
    spec.segment_bytes = 64 << 10;
    Pool pool(1, {64 << 10, 64});
    auto device = device::Device::create(spec, pool.devices.uuid);
    ASSERT_TRUE(device.ok()) << device.error().message();
    if (!(*device)->is_private_mount()) GTEST_SKIP() << "no right to mount a tmpfs";
    pool.devices.adopt(std::move(*device));
    ASSERT_TRUE(pool.checkpoint({0, 1}));
    ASSERT_TRUE(pool.append(numbered(0)));
    {
        std::ofstream filler(pool.devices[1]->directory() + "/filler", std::ios::binary);
        const std::string block(4096, 'f');
        while (filler.write(block.data(), 4096).flush()) {
        }
    }
    // The segment in use may have all of its memory already: the next one has none.
    for (std::uint64_t i = 1; i < 20'000 && pool.log->copies().size() == 2; ++i)
        ASSERT_TRUE(pool.append(numbered(i)));
    EXPECT_EQ(pool.log->copies(), Ids{DeviceId(1)});
    EXPECT_EQ(pool.log->failed_copies(), Ids{DeviceId(2)});
    const auto history = MetadataLog::read_longest(pool.devices.all());
    ASSERT_TRUE(history.ok()) << history.error().message();
    EXPECT_EQ(history->transactions, pool.acknowledged);
}

}  // namespace
}  // namespace refault::store::testing
