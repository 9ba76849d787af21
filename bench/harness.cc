// Timing and reporting.
#include "bench/harness.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace refault::bench {

double now_s() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const auto middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double percentile(std::vector<double> values, double part) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const auto at = static_cast<std::size_t>(part * static_cast<double>(values.size()));
    return values[std::min(at, values.size() - 1)];
}

double time_s(const std::function<void()>& action) {
    const double start = now_s();
    action();
    return now_s() - start;
}

void Report::input(const std::string& name, const Json& value) {
    document_["inputs"][name] = value;
    if (!options_.json)
        std::printf("%s: %s\n", name.c_str(),
                    value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
}

void Report::row(const Json& fields) {
    document_["rows"].push_back(fields);
    if (options_.json) return;
    for (const auto& [key, value] : fields.items()) {
        if (value.is_number_float())
            std::printf("  %s %.4g", key.c_str(), value.get<double>());
        else
            std::printf(
                "  %s %s", key.c_str(),
                value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
    }
    std::printf("\n");
    std::fflush(stdout);
}

void Report::target(const std::string& text, bool is_reached) {
    document_["targets"].push_back({{"target", text}, {"is_reached", is_reached}});
    if (!options_.json)
        std::printf("target: %s: %s\n", text.c_str(), is_reached ? "reached" : "MISSED");
}

void Report::finish() const {
    if (options_.json) std::printf("%s\n", document_.dump(2).c_str());
}

}  // namespace refault::bench
