// The rules, one function each.
#include "cli/demo_rules.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/range_set.h"

namespace refault::cli {

using base::FileRange;
using Json = nlohmann::json;

namespace {

using Broken = std::vector<std::string>;

constexpr double kPauseMaxMs = 10'000;  // patience_ms of a mount

FileRange file_range(const Json& json) {
    return FileRange(json.value("file_begin", 0ull), json.value("file_end", 0ull));
}

// Where the daemon has held this process back.
base::RangeSet held_back_from(const DemoWitness& witness, const Json& failures) {
    base::RangeSet held;
    for (const auto& record : failures["failures"])
        for (const auto& part : record["parts"]) {
            const auto& pids = part["stale_for_pids"];
            if (part.value("path", "") == witness.file.path &&
                std::find(pids.begin(), pids.end(), witness.pid) != pids.end())
                held.add(file_range(part));
        }
    return held;
}

base::RangeSet set_of(const std::vector<FileRange>& ranges) {
    base::RangeSet set;
    for (const auto range : ranges) set.add(range);
    return set;
}

std::string instead_of(std::uint64_t is, std::uint64_t should) {
    return std::to_string(is) + " instead of " + std::to_string(should);
}

void check_records(const DemoWitness& witness, Broken& broken) {
    const std::string who = "the process of " + witness.file.path;
    if (witness.unexplained_signals != 0) broken.push_back(who + " got a signal without a reason");
    if (!witness.address_unchanged) broken.push_back(who + " saw its address change");
    if (witness.bad_records != 0)
        broken.push_back(who + " found " + std::to_string(witness.bad_records) + " bad records");
    const auto left = witness.records - std::min(witness.records, witness.lost_records);
    if (witness.verified_records != left)
        broken.push_back(who + " verified " + instead_of(witness.verified_records, left) +
                         " records");
}

// The file has two copies: nothing is lost, and who is held back is so only where the daemon says
// that the copy may be older.
void check_copied(const DemoWitness& witness, const Json& failures, Broken& broken) {
    const std::string who = "the process of " + witness.file.path;
    const auto held = held_back_from(witness, failures);
    if (witness.lost_records != 0)
        broken.push_back(who + " lost " + std::to_string(witness.lost_records) +
                         " records of a file with two copies");
    for (const auto part : held.parts())
        if (!set_of(witness.hit).gaps(part).empty())
            broken.push_back("the daemon held back " + who +
                             " from memory that nothing happened to");
    if (witness.file.rolls_back) {
        // One store can be under way when the primary goes.
        if (witness.loss_signals != 0 || witness.held_back != 0 || !held.empty())
            broken.push_back(who + " was held back, though its file is set to roll back");
        if (witness.rolled_back > 1)
            broken.push_back(who + " had to repeat " + std::to_string(witness.rolled_back) +
                             " stores after one loss");
        return;
    }
    if (witness.rolled_back != 0)
        broken.push_back(who +
                         " lost stores without a word: " + std::to_string(witness.rolled_back));
    if (witness.loss_signals > witness.held_back)
        broken.push_back(who + " got a signal where nothing was lost or stale");
    if ((witness.held_back != 0) == held.empty())
        broken.push_back(who + " was held back " + std::to_string(witness.held_back) +
                         " times; by the daemon's report it " +
                         (held.empty() ? "never was" : "was"));
    for (const auto at : witness.held_at)
        if (!held.overlaps(FileRange::of_length(at, kRecordBytes)))
            broken.push_back(who + " was held back at byte " + std::to_string(at) +
                             ", where no copy may be older");
}

// The file has one copy: each lost page is one signal, and there is none anywhere else.
void check_single(const DemoWitness& witness, const Json& lost, Broken& broken) {
    const std::string who = "the process of " + witness.file.path;
    base::RangeSet reported;
    for (const auto& one : lost["lost"])
        if (one["paths"][0] == witness.file.path) reported.add(file_range(one));
    const auto seen = set_of(witness.lost), hit = set_of(witness.hit);
    if (seen.parts() != hit.parts())
        broken.push_back(who + " found other ranges lost (" +
                         instead_of(seen.length_bytes(), hit.length_bytes()) +
                         " bytes) than were destroyed");
    if (seen.parts() != reported.parts())
        broken.push_back(who + " found other ranges lost (" +
                         instead_of(seen.length_bytes(), reported.length_bytes()) +
                         " bytes) than the daemon reports");
    if (witness.lost_records == 0)
        broken.push_back(who + " lost nothing, though a page under it went bad");
    if (witness.loss_signals != witness.lost_records)
        broken.push_back(who + " got " + instead_of(witness.loss_signals, witness.lost_records) +
                         " signals for its lost pages");
    if (witness.held_back != 0 || witness.rolled_back != 0)
        broken.push_back(who + " was held back, though there is no copy to be older");
}

// Who is on the daemon's list of lost ranges: the files with one copy, and their process.
void check_lost_list(const std::vector<DemoWitness>& witnesses, const Json& lost, Broken& broken) {
    for (const auto& one : lost["lost"]) {
        const std::string path = one["paths"][0];
        const auto owner =
            std::find_if(witnesses.begin(), witnesses.end(),
                         [&](const DemoWitness& witness) { return witness.file.path == path; });
        if (owner == witnesses.end() || owner->file.copies > 1)
            broken.push_back("the daemon reports a loss of " + path);
        else if (one["signalled_pids"] != Json::array({owner->pid}))
            broken.push_back("the daemon reports that " + one["signalled_pids"].dump() +
                             " were told of the loss of " + path + ", not " +
                             std::to_string(owner->pid));
    }
}

// Everybody whom the daemon has told something was told it about his own mapping.
void check_signalled(const std::vector<DemoWitness>& witnesses, const Json& failures,
                     Broken& broken) {
    std::set<std::string> wrong;
    for (const auto& record : failures["failures"])
        for (const auto& one : record["signalled"]) {
            const auto pid = one.value("pid", 0);
            const auto address = one.value("address", 0ull);
            const auto why = one.value("why", "");
            const bool is_right =
                std::any_of(witnesses.begin(), witnesses.end(), [&](const DemoWitness& witness) {
                    return witness.pid == pid && address >= witness.address &&
                           address - witness.address < witness.records * kRecordBytes &&
                           !witness.file.rolls_back &&
                           why == (witness.file.copies > 1 ? "stale" : "lost");
                });
            if (!is_right)
                wrong.insert("the daemon reports that pid " + std::to_string(pid) +
                             " was told of memory that is " + why + " and not its own");
        }
    broken.insert(broken.end(), wrong.begin(), wrong.end());
}

}  // namespace

DemoWitness witness_of(const DemoFile& file, pid_t pid, const DemoClientState& state,
                       std::uint64_t records) {
    DemoWitness witness;
    witness.file = file;
    witness.pid = pid;
    witness.address = state.address_first.load();
    witness.address_unchanged =
        witness.address != 0 && witness.address == state.address_last.load();
    witness.records = records;
    witness.verified_records = state.verified_records.load();
    witness.bad_records = state.bad_records.load();
    witness.lost_records = state.lost_records.load();
    witness.loss_signals = state.loss_signals.load();
    witness.unexplained_signals = state.signals.load();
    witness.held_back = state.held_count.load();
    witness.rolled_back = state.rolled_back.load();
    const auto lost = std::min<std::uint64_t>(state.lost_count.load(), kDemoRangesMax);
    for (std::size_t i = 0; i < lost; ++i)
        witness.lost.emplace_back(state.lost[i].first.load() * kRecordBytes,
                                  state.lost[i].end.load() * kRecordBytes);
    const auto held = std::min<std::uint64_t>(witness.held_back, kDemoRangesMax);
    for (std::size_t i = 0; i < held; ++i)
        witness.held_at.push_back(state.held_records[i].load() * kRecordBytes);
    return witness;
}

std::vector<std::string> broken_rules(const std::vector<DemoWitness>& witnesses,
                                      const Json& failures, const Json& lost) {
    Broken broken;
    for (const auto& witness : witnesses) {
        check_records(witness, broken);
        if (witness.file.copies > 1)
            check_copied(witness, failures, broken);
        else
            check_single(witness, lost, broken);
    }
    check_lost_list(witnesses, lost, broken);
    check_signalled(witnesses, failures, broken);
    return broken;
}

std::vector<std::string> broken_rules(const DemoDatabase& database) {
    Broken broken;
    for (const auto& spell : database.spells) {
        const std::string when = ", while " + spell.what;
        if (spell.errors != 0)
            broken.push_back("sqlite3 reported " + std::to_string(spell.errors) + " errors" + when);
        if (spell.transactions == 0) broken.push_back("sqlite3 acknowledged no transaction" + when);
        if (spell.longest_pause_ms > kPauseMaxMs)
            broken.push_back("sqlite3 paused for longer than the mount lets a request wait" + when);
    }
    if (database.integrity_check != "ok")
        broken.push_back("PRAGMA integrity_check says: " + database.integrity_check);
    if (database.found.rows != database.acknowledged.rows)
        broken.push_back("the database has " +
                         instead_of(database.found.rows, database.acknowledged.rows) + " rows");
    else if (database.found.crc != database.acknowledged.crc)
        broken.push_back("the rows of the database are not those that were acknowledged");
    if (database.lost_ranges != 0)
        broken.push_back("the daemon reports " + std::to_string(database.lost_ranges) +
                         " lost ranges, though the database has two copies");
    return broken;
}

}  // namespace refault::cli
