// Timeline, tables and verdict.
#include "cli/demo_report.h"

#include <sys/wait.h>

#include <algorithm>
#include <cstdio>

#include "base/units.h"
#include "cli/pull_text.h"

namespace refault::cli {

using Json = nlohmann::json;

namespace {

double gigabytes_per_second(const Json& removal) {
    const double seconds = removal.value("moving_seconds", 0.0);
    return seconds > 0
               ? static_cast<double>(removal.value("bytes_moved", std::uint64_t{0})) / seconds / 1e9
               : 0;
}

double pause_ms(const DemoClientState& state, DemoPhase phase) {
    return static_cast<double>(state.worst_pause_ns[static_cast<std::size_t>(phase)].load()) / 1e6;
}

// What the daemon says about one process.
std::string told(const DemoWitness& witness, const Json& failures, const Json& lost) {
    std::uint64_t lost_bytes = 0;
    for (const auto& one : lost["lost"])
        if (one["paths"][0] == witness.file.path)
            lost_bytes += one.value("file_end", 0ull) - one.value("file_begin", 0ull);
    if (lost_bytes > 0) return base::format_size(lost_bytes) + " lost";
    for (const auto& record : failures["failures"])
        for (const auto& one : record["signalled"])
            if (one.value("pid", 0) == witness.pid) return "told: " + one.value("why", "");
    return "nothing";
}

// "promoted 12, lost 4": what became of the parts of files that failed.
std::string outcomes(const Json& record) {
    std::map<std::string, int> counts;
    for (const auto& part : record["parts"]) ++counts[part.value("outcome", "")];
    std::string text;
    for (const auto& [outcome, count] : counts)
        text += (text.empty() ? "" : ", ") + outcome + " " + std::to_string(count);
    return text;
}

std::string setting(const Json& client) {
    const auto copies = client["copies"].get<unsigned>();
    if (client["on_loss"] == "rollback") return std::to_string(copies) + ", rollback";
    return std::to_string(copies);
}

const char* address_text(const Json& client) {
    return client["address_unchanged"].get<bool>() ? "unchanged" : "CHANGED";
}

}  // namespace

void DemoReport::step(const std::string& text) {
    const double at_ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
            .count();
    timeline_.push_back({{"at_ms", at_ms}, {"what", text}});
    if (is_json_) return;
    std::printf("%9.1f ms  %s\n", at_ms, text.c_str());
    std::fflush(stdout);
}

void DemoReport::check_kept(std::size_t index, const DemoClientState& state,
                            std::uint64_t records) {
    const std::string who = "client " + std::to_string(index);
    if (state.signals.load() != 0) fail(who + " got a signal that nothing explains");
    if (state.bad_records.load() != 0)
        fail(who + " found " + std::to_string(state.bad_records.load()) + " bad records");
    if (state.verified_records.load() != records) fail(who + " did not verify all of its records");
    if (state.address_first.load() == 0 || state.address_first.load() != state.address_last.load())
        fail(who + " saw its address change");
}

void DemoReport::add_pull(std::size_t index, const DemoClientState& state, std::uint64_t records) {
    check_kept(index, state, records);
    const auto signals = state.signals.load() + state.loss_signals.load();
    if (signals != 0) fail("client " + std::to_string(index) + " got a signal from a pull");
    clients_.push_back(
        {{"client", index},
         {"writes", state.writes.load()},
         {"reads", state.reads.load()},
         {"worst_pause_ms", pause_ms(state, DemoPhase::Pull)},
         {"worst_pause_without_pull_ms", pause_ms(state, DemoPhase::Quiet)},
         {"records", records},
         {"records_verified", state.verified_records.load()},
         {"bad_records", state.bad_records.load()},
         {"signals", signals},
         {"address_unchanged", state.address_first.load() == state.address_last.load()}});
}

void DemoReport::add_loss(const std::vector<DemoWitness>& witnesses, const Json& failures,
                          const Json& lost, const DemoState& state) {
    // The first act is among them.
    for (const auto& record : failures["failures"])
        if (record.value("kind", "") != "planned-removal") failures_.push_back(record);
    for (std::size_t i = 0; i < witnesses.size(); ++i) {
        const auto& witness = witnesses[i];
        losers_.push_back({{"client", i},
                           {"pid", witness.pid},
                           {"path", witness.file.path},
                           {"copies", witness.file.copies},
                           {"on_loss", witness.file.rolls_back ? "rollback" : "signal"},
                           {"worst_pause_ms", pause_ms(state.clients[i], DemoPhase::Loss)},
                           {"records", witness.records},
                           {"records_verified", witness.verified_records},
                           {"records_lost", witness.lost_records},
                           {"bad_records", witness.bad_records},
                           {"loss_signals", witness.loss_signals},
                           {"unexplained_signals", witness.unexplained_signals},
                           {"held_back", witness.held_back},
                           {"rolled_back", witness.rolled_back},
                           {"daemon_says", told(witness, failures, lost)},
                           {"address_unchanged", witness.address_unchanged}});
    }
}

void DemoReport::add_end(std::size_t index, const DemoClientState& state, std::uint64_t records) {
    const int status = exits[index];
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail("client " + std::to_string(index) +
             (WIFSIGNALED(status) ? " was ended by signal " + std::to_string(WTERMSIG(status))
                                  : " failed"));
    check_kept(index, state, records);
}

void DemoReport::show_pull() const {
    if (is_json_) return;
    std::printf(
        "\n  process   operations   worst pause   without pull   records verified   signals   "
        "address\n");
    for (const auto& client : clients_)
        std::printf(
            "  client %d   %10llu   %8.2f ms    %8.2f ms   %8llu of %-8llu %5u      %s\n",
            client["client"].get<int>(),
            client["writes"].get<unsigned long long>() + client["reads"].get<unsigned long long>(),
            client["worst_pause_ms"].get<double>(),
            client["worst_pause_without_pull_ms"].get<double>(),
            client["records_verified"].get<unsigned long long>(),
            client["records"].get<unsigned long long>(), client["signals"].get<unsigned>(),
            address_text(client));
    std::printf(
        "\n  device   moved        speed        longest lock-out   time to proof   whole pull   "
        "power indicator\n");
    std::printf("  %-8s %-12s %5.2f GB/s   %8.2f ms        %7.1f ms     %7.1f ms   %s\n\n",
                removal.status.value("device", "?").c_str(),
                base::format_size(removal.status.value("bytes_moved", std::uint64_t{0})).c_str(),
                gigabytes_per_second(removal.status), removal.status.value("worst_fence_ms", 0.0),
                removal.status.value("proving_seconds", 0.0) * 1e3, removal.seconds * 1e3,
                removal.power.c_str());
}

void DemoReport::show_loss() const {
    if (is_json_) return;
    std::printf(
        "\n  process    copies        worst pause   records right      lost   SIGBUS   held back, "
        "accepted   daemon says   address\n");
    for (const auto& client : losers_)
        std::printf(
            "  client %d   %-11s   %8.2f ms   %6llu of %-6llu %6llu   %6llu   %19llu   "
            "%-13s %s\n",
            client["client"].get<int>(), setting(client).c_str(),
            client["worst_pause_ms"].get<double>(),
            client["records_verified"].get<unsigned long long>(),
            client["records"].get<unsigned long long>(),
            client["records_lost"].get<unsigned long long>(),
            client["loss_signals"].get<unsigned long long>(),
            client["held_back"].get<unsigned long long>(),
            client["daemon_says"].get<std::string>().c_str(), address_text(client));
    std::printf(
        "\n  failure            device   unmapped after   repaired after   parts of files\n");
    for (const auto& record : failures_)
        std::printf("  %-16s   %-8s %11s   %14s    %s\n", record.value("kind", "").c_str(),
                    record.value("device", "").c_str(), ms_or_dash(record["unmapped_ms"]).c_str(),
                    ms_or_dash(record["repaired_ms"]).c_str(), outcomes(record).c_str());
    std::printf("\n");
}

void DemoReport::add_database(const std::string& path, const DemoDatabase& database,
                              const DemoRemoval& removed) {
    Json spells = Json::array();
    DemoSpell all{.what = "in all"};
    const auto add = [&](const DemoSpell& spell) {
        spells.push_back({{"while", spell.what},
                          {"transactions", spell.transactions},
                          {"longest_pause_ms", spell.longest_pause_ms},
                          {"errors", spell.errors}});
    };
    for (const auto& spell : database.spells) {
        add(spell);
        all.transactions += spell.transactions;
        all.longest_pause_ms = std::max(all.longest_pause_ms, spell.longest_pause_ms);
        all.errors += spell.errors;
    }
    add(all);
    database_ = {{"path", path},
                 {"copies", 2},
                 {"journal_mode", "wal"},
                 {"synchronous", "full"},
                 {"transactions", all.transactions},
                 {"longest_pause_ms", all.longest_pause_ms},
                 {"errors", all.errors},
                 {"spells", spells},
                 {"rows", database.found.rows},
                 {"rows_acknowledged", database.acknowledged.rows},
                 {"checksum", database.found.crc},
                 {"checksum_acknowledged", database.acknowledged.crc},
                 {"integrity_check", database.integrity_check},
                 {"removal", removed.status},
                 {"power_indicator", removed.power}};
}

void DemoReport::show_database() const {
    if (is_json_) return;
    std::printf("\n  sqlite3, while            transactions   longest pause   errors\n");
    for (const auto& spell : database_["spells"])
        std::printf(
            "  %-23s   %12llu     %8.2f ms   %6llu\n", spell["while"].get<std::string>().c_str(),
            spell["transactions"].get<unsigned long long>(),
            spell["longest_pause_ms"].get<double>(), spell["errors"].get<unsigned long long>());
    const bool is_same = database_["checksum"] == database_["checksum_acknowledged"];
    std::printf(
        "\n  database        rows, of acknowledged   checksum            integrity check   pulled  "
        " "
        "power indicator\n");
    std::printf("  %-13s   %8llu of %-8llu    %08x, %-8s  %-15s   %-6s   %s\n",
                database_["path"].get<std::string>().c_str(),
                database_["rows"].get<unsigned long long>(),
                database_["rows_acknowledged"].get<unsigned long long>(),
                database_["checksum"].get<unsigned>(), is_same ? "right" : "WRONG",
                database_["integrity_check"].get<std::string>().substr(0, 15).c_str(),
                database_["removal"].value("device", "?").c_str(),
                database_["power_indicator"].get<std::string>().c_str());
}

int DemoReport::finish() const {
    const bool is_good = broken_.empty();
    if (is_json_) {
        const Json document = {{"ok", is_good},
                               {"failures", broken_},
                               {"timeline", timeline_},
                               {"clients", clients_},
                               {"removal", removal.status},
                               {"pull_seconds", removal.seconds},
                               {"gigabytes_per_second", gigabytes_per_second(removal.status)},
                               {"power_indicator", removal.power},
                               {"after_loss", losers_},
                               {"losses", failures_},
                               {"database", database_}};
        std::printf("%s\n", document.dump(2).c_str());
        return is_good ? 0 : 1;
    }
    for (const auto& broken : broken_) std::printf("\nFAILED: %s\n", broken.c_str());
    if (is_good)
        std::printf(
            "\nThe pull cost nothing: no record, no address, no signal. The loss cost exactly what "
            "had one copy, and\nits process was told page by page; whatever had two copies is "
            "intact, at the same addresses.\n");
    if (is_good && database_.contains("rows"))
        std::printf(
            "The database has every transaction that sqlite3 has acknowledged, and no other.\n");
    return is_good ? 0 : 1;
}

}  // namespace refault::cli
