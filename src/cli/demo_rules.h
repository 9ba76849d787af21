// What has to be true after memory was lost under the demo's clients: what each process saw itself
// is held against what the daemon reports; and what the demo's database has to be after the same.
// Pure functions.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/range.h"
#include "cli/demo_rows.h"
#include "cli/demo_state.h"

namespace refault::cli {

// How the file of a client is set.
struct DemoFile {
    std::string path;
    unsigned copies = 1;
    bool rolls_back = false;
};

// What one client saw, after a survey in which it touched every record.
struct DemoWitness {
    DemoFile file;
    std::vector<base::FileRange> hit;  // where its primary lay on what was destroyed
    pid_t pid = 0;
    std::uint64_t address = 0;
    bool address_unchanged = false;
    std::uint64_t records = 0;
    std::uint64_t verified_records = 0;
    std::uint64_t bad_records = 0;
    std::uint64_t lost_records = 0;
    std::uint64_t loss_signals = 0;  // SIGBUS, BUS_MCEERR_AR, address and size of the page touched
    std::uint64_t unexplained_signals = 0;
    std::uint64_t held_back = 0;  // times; each time it has accepted the copy
    std::uint64_t rolled_back = 0;
    std::vector<base::FileRange> lost;
    std::vector<std::uint64_t> held_at;  // offsets in the file
};
DemoWitness witness_of(const DemoFile& file, pid_t pid, const DemoClientState& state,
                       std::uint64_t records);

// The daemon's word: answers of GET /v1/failures and GET /v1/lost. One sentence for each rule that
// was broken.
std::vector<std::string> broken_rules(const std::vector<DemoWitness>& witnesses,
                                      const nlohmann::json& failures, const nlohmann::json& lost);

// A part of the database's time, by what happened to the pool in it.
struct DemoSpell {
    std::string what;
    std::uint64_t transactions = 0;  // acknowledged
    double longest_pause_ms = 0;     // between two that were acknowledged one after the other
    std::uint64_t errors = 0;        // anything that sqlite3 said besides
};

struct DemoDatabase {
    std::vector<DemoSpell> spells;
    DemoTableSum acknowledged;    // what the table has to be
    DemoTableSum found;           // what another sqlite3 has read, on a fresh mount
    std::string integrity_check;  // what that said
    std::size_t lost_ranges = 0;  // of any file, by the daemon's word
};
std::vector<std::string> broken_rules(const DemoDatabase& database);

}  // namespace refault::cli
