// The demo fails when a rule is broken: evidence that is right, and the same with one thing wrong.
#include "cli/demo_rules.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

namespace refault::cli {
namespace {

using base::FileRange;
using Json = nlohmann::json;

constexpr std::uint64_t kRecords = 8;

// Three processes: a copy and a signal, a copy and no signal, no copy. Of each file, the records 2
// and 3 were destroyed.
struct Evidence {
    std::vector<DemoWitness> witnesses;
    Json failures;
    Json lost;

    Evidence() {
        const FileRange hit(2 * kRecordBytes, 4 * kRecordBytes);
        for (const auto& file :
             {DemoFile{"/signal", 2, false}, DemoFile{"/rollback", 2, true}, DemoFile{"/one"}}) {
            DemoWitness witness;
            witness.file = file;
            witness.hit = {hit};
            witness.pid = 100 + static_cast<pid_t>(witnesses.size());
            witness.address = 0x10000000 * (witnesses.size() + 1);
            witness.address_unchanged = true;
            witness.records = witness.verified_records = kRecords;
            witnesses.push_back(witness);
        }
        signal().held_back = signal().loss_signals = 1;
        signal().held_at = {2 * kRecordBytes};
        rollback().rolled_back = 1;
        one().lost = {hit};
        one().lost_records = one().loss_signals = 2;
        one().verified_records = kRecords - 2;
        Json parts = Json::array();
        for (const auto& witness : witnesses)
            parts.push_back({{"path", witness.file.path},
                             {"file_begin", hit.begin()},
                             {"file_end", hit.end()},
                             {"stale_for_pids", Json::array()}});
        parts[0]["stale_for_pids"] = {100};
        const Json signalled = {
            {{"pid", 100}, {"address", signal().address + hit.begin()}, {"why", "stale"}},
            {{"pid", 102}, {"address", one().address + hit.begin()}, {"why", "lost"}}};
        failures["failures"] = {{{"parts", parts}, {"signalled", signalled}}};
        lost["lost"] = {{{"paths", {"/one"}},
                         {"file_begin", hit.begin()},
                         {"file_end", hit.end()},
                         {"signalled_pids", {102}}}};
    }

    DemoWitness& signal() { return witnesses[0]; }
    DemoWitness& rollback() { return witnesses[1]; }
    DemoWitness& one() { return witnesses[2]; }
    Json& record() { return failures["failures"][0]; }
    std::vector<std::string> judge() const { return broken_rules(witnesses, failures, lost); }
};

TEST(DemoRules, WhatIsRightBreaksNone) {
    EXPECT_EQ(Evidence().judge(), std::vector<std::string>());
}

TEST(DemoRules, EachWrongThingBreaksOne) {
    using Change = std::function<void(Evidence&)>;
    const std::vector<std::pair<const char*, Change>> changes = {
        {"a bad record", [](Evidence& e) { e.signal().bad_records = 1; }},
        {"a record that nobody verified", [](Evidence& e) { --e.rollback().verified_records; }},
        {"another address", [](Evidence& e) { e.one().address_unchanged = false; }},
        {"a signal without a reason", [](Evidence& e) { e.signal().unexplained_signals = 1; }},
        {"a loss in spite of a copy", [](Evidence& e) { e.signal().lost_records = 1; }},
        {"more signals than losses", [](Evidence& e) { e.signal().loss_signals = 2; }},
        {"held back elsewhere", [](Evidence& e) { e.signal().held_at = {0}; }},
        {"not held back", [](Evidence& e) { e.signal().held_back = 0; }},
        {"held back, unreported",
         [](Evidence& e) { e.record()["parts"][0]["stale_for_pids"].clear(); }},
        {"held back beyond the loss",
         [](Evidence& e) { e.record()["parts"][0]["file_end"] = kRecords * kRecordBytes; }},
        {"stores gone without a word", [](Evidence& e) { e.signal().rolled_back = 1; }},
        {"a signal in spite of rollback", [](Evidence& e) { e.rollback().loss_signals = 1; }},
        {"more than one store rolled back", [](Evidence& e) { e.rollback().rolled_back = 2; }},
        {"fewer signals than lost pages", [](Evidence& e) { e.one().loss_signals = 1; }},
        {"a lost range that was not hit", [](Evidence& e) { e.one().hit.clear(); }},
        {"a lost range that nobody reports", [](Evidence& e) { e.lost["lost"].clear(); }},
        {"a wrong process on the list",
         [](Evidence& e) {
             e.lost["lost"][0]["signalled_pids"] = {100, 102};
         }},
        {"a file with a copy on the list",
         [](Evidence& e) { e.lost["lost"][0]["paths"][0] = "/signal"; }},
        {"a bystander who was told", [](Evidence& e) { e.record()["signalled"][0]["pid"] = 101; }},
        {"told of memory of another",
         [](Evidence& e) { e.record()["signalled"][0]["address"] = 1; }},
    };
    for (const auto& [what, change] : changes) {
        Evidence evidence;
        change(evidence);
        EXPECT_FALSE(evidence.judge().empty()) << what;
    }
}

// A database to which nothing has happened but what the spells say.
struct DatabaseEvidence {
    DemoDatabase database;

    DatabaseEvidence() {
        database.spells = {{"nothing happens", 100, 5, 0}, {"a is torn out", 50, 80, 0}};
        database.acknowledged = database.found = sum_of(DemoRows{1, 1501});
        database.integrity_check = "ok";
    }
};

TEST(DemoRules, ADatabaseWithAllOfItsRowsBreaksNone) {
    EXPECT_EQ(broken_rules(DatabaseEvidence().database), std::vector<std::string>());
}

TEST(DemoRules, EachWrongThingAboutADatabaseBreaksOne) {
    using Change = std::function<void(DemoDatabase&)>;
    const std::vector<std::pair<const char*, Change>> changes = {
        {"an error", [](DemoDatabase& d) { d.spells[1].errors = 1; }},
        {"no transaction under a loss", [](DemoDatabase& d) { d.spells[1].transactions = 0; }},
        {"a pause without a limit", [](DemoDatabase& d) { d.spells[0].longest_pause_ms = 10'001; }},
        {"a damaged tree", [](DemoDatabase& d) { d.integrity_check = "row 3 missing"; }},
        {"a check that did not run", [](DemoDatabase& d) { d.integrity_check.clear(); }},
        {"a row too few",
         [](DemoDatabase& d) {
             d.found = sum_of(DemoRows{1, 1500});
         }},
        {"a row too many",
         [](DemoDatabase& d) {
             d.found = sum_of(DemoRows{1, 1502});
         }},
        {"other rows, as many",
         [](DemoDatabase& d) {
             d.found = sum_of(DemoRows{2, 1502});
         }},
        {"a lost range", [](DemoDatabase& d) { d.lost_ranges = 1; }},
    };
    for (const auto& [what, change] : changes) {
        DatabaseEvidence evidence;
        change(evidence.database);
        EXPECT_EQ(broken_rules(evidence.database).size(), 1u) << what;
    }
}

}  // namespace
}  // namespace refault::cli
