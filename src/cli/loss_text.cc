// Failures and losses in words.
#include "cli/loss_text.h"

#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/pull_text.h"

namespace refault::cli {

std::string count_of(std::uint64_t number, const std::string& noun) {
    const auto text = std::to_string(number) + " " + noun;
    if (number == 1) return text;
    return noun.ends_with("y") ? text.substr(0, text.size() - 1) + "ies" : text + "s";
}

std::string planned_part_line(const Json& part) {
    char text[256];
    const auto outcome = part.value("outcome", "");
    if (outcome == "metadata-rewritten") {
        std::snprintf(text, sizeof text, "metadata at 0x%llx-0x%llx: would be rewritten",
                      part.value("device_begin", 0ull), part.value("device_end", 0ull));
        return text;
    }
    std::snprintf(text, sizeof text,
                  " bytes 0x%llx-0x%llx, copy %u: ", part.value("file_begin", 0ull),
                  part.value("file_end", 0ull), part.value("replica", 0u));
    return printable(part.value("path", "")) + text +
           (outcome == "repaired"       ? "would be repaired from another copy"
            : outcome == "promoted"     ? "the other copy would take over"
            : outcome == "copy-dropped" ? "would be dropped, the primary goes on"
                                        : "would be LOST, there is no other copy");
}

std::string local_time(std::uint64_t ns) {
    const auto seconds = static_cast<std::time_t>(ns / 1'000'000'000);
    std::tm parts{};
    ::localtime_r(&seconds, &parts);
    char text[32];
    std::strftime(text, sizeof text, "%F %T", &parts);
    return text;
}

std::string list_of(const Json& numbers) {
    std::string text;
    for (const auto& number : numbers) text += (text.empty() ? "" : ",") + number.dump();
    return text.empty() ? "none" : text;
}

void show_failure(const Json& record) {
    if (!record.contains("parts")) {
        std::printf("under way; see: refault device list\n");
        return;
    }
    std::printf("failure %llu  %s  %s  %s 0x%llx-0x%llx\n", record.value("failure", 0ull),
                local_time(record.value("noticed_ns", 0ull)).c_str(),
                record.value("kind", "").c_str(), record.value("device", "").c_str(),
                record.value("device_begin", 0ull), record.value("device_end", 0ull));
    std::printf("  unmapped after %s, repaired after %s, proven after %s, signals %s to %s\n",
                ms_or_dash(record["unmapped_ms"]).c_str(),
                ms_or_dash(record["repaired_ms"]).c_str(), ms_or_dash(record["proven_ms"]).c_str(),
                ms_or_dash(record["first_signal_ms"]).c_str(),
                ms_or_dash(record["last_signal_ms"]).c_str());
    for (const auto& part : record["parts"])
        std::printf("  %-18s %s bytes 0x%llx-0x%llx, copy %u; mapped by pid %s\n",
                    part.value("outcome", "").c_str(), printable(part.value("path", "")).c_str(),
                    part.value("file_begin", 0ull), part.value("file_end", 0ull),
                    part.value("replica", 0u), list_of(part["spanning_pids"]).c_str());
    for (const auto& one : record["signalled"])
        std::printf("  told pid %d at 0x%llx: %s, after %s\n", one.value("pid", 0),
                    one.value("address", 0ull), one.value("why", "").c_str(),
                    ms_or_dash(one["after_ms"]).c_str());
    if (const auto left = record.value("parts_left_out", 0ull); left > 0)
        std::printf("  and %llu more parts that were not lost\n", left);
}

}  // namespace refault::cli
