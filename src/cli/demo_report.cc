// Timeline, table and verdict.
#include "cli/demo_report.h"

#include <sys/wait.h>

#include <cstdio>

#include "base/units.h"

namespace refault::cli {

namespace {

double gigabytes_per_second(const nlohmann::json& removal) {
    const double seconds = removal.value("moving_seconds", 0.0);
    return seconds > 0
               ? static_cast<double>(removal.value("bytes_moved", std::uint64_t{0})) / seconds / 1e9
               : 0;
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

void DemoReport::add_client(std::size_t index, const DemoClientState& state,
                            std::uint64_t records) {
    const std::string who = "client " + std::to_string(index);
    const int status = exits[index];
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail(who + (WIFSIGNALED(status) ? " was ended by signal " + std::to_string(WTERMSIG(status))
                                        : " failed"));
    if (state.signals.load() != 0) fail(who + " got a signal");
    if (state.bad_records.load() != 0)
        fail(who + " found " + std::to_string(state.bad_records.load()) + " bad records");
    if (state.verified_records.load() != records) fail(who + " did not verify all of its records");
    if (state.address_first.load() == 0 || state.address_first.load() != state.address_last.load())
        fail(who + " saw its address change");
    clients_.push_back(
        {{"client", index},
         {"writes", state.writes.load()},
         {"reads", state.reads.load()},
         {"worst_pause_ms", static_cast<double>(state.worst_pause_ns.load()) / 1e6},
         {"worst_pause_without_pull_ms",
          static_cast<double>(state.worst_pause_before_ns.load()) / 1e6},
         {"records", records},
         {"records_verified", state.verified_records.load()},
         {"bad_records", state.bad_records.load()},
         {"signals", state.signals.load()},
         {"address_unchanged", state.address_first.load() == state.address_last.load()}});
}

void DemoReport::print_table() const {
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
            client["address_unchanged"].get<bool>() ? "unchanged" : "CHANGED");
    if (removal.empty()) return;
    std::printf(
        "\n  device   moved        speed        longest lock-out   time to proof   whole pull   "
        "power indicator\n");
    std::printf("  %-8s %-12s %5.2f GB/s   %8.2f ms        %7.1f ms     %7.1f ms   %s\n",
                removal.value("device", "?").c_str(),
                base::format_size(removal.value("bytes_moved", std::uint64_t{0})).c_str(),
                gigabytes_per_second(removal), removal.value("worst_fence_ms", 0.0),
                removal.value("proving_seconds", 0.0) * 1e3, pull_seconds * 1e3, power.c_str());
}

int DemoReport::finish() {
    const bool is_good = failures_.empty();
    if (is_json_) {
        nlohmann::json document = {{"ok", is_good},
                                   {"failures", failures_},
                                   {"timeline", timeline_},
                                   {"clients", clients_},
                                   {"removal", removal},
                                   {"pull_seconds", pull_seconds},
                                   {"gigabytes_per_second", gigabytes_per_second(removal)},
                                   {"power_indicator", power}};
        std::printf("%s\n", document.dump(2).c_str());
    } else {
        print_table();
        for (const auto& failure : failures_) std::printf("\nFAILED: %s\n", failure.c_str());
        if (is_good)
            std::printf(
                "\nEvery record of every process is intact; no address changed; no process got a "
                "signal.\n");
    }
    return is_good ? 0 : 1;
}

}  // namespace refault::cli
