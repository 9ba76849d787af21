// Figures of /proc and the line through them.
#include "tests/soak_meter.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace refault::tests {

namespace {

constexpr std::size_t kSamplesMin = 30;
// What comes and goes with programs and devices; a leak of a soak's length is far more.
constexpr double kMemoryNoiseBytes = 4 << 20;
constexpr double kDescriptorNoise = 60;

double status_figure(pid_t pid, const std::string& key) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1));
    return 0;
}

double count_descriptors(pid_t pid) {
    std::error_code none;
    double count = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", none)) {
        (void)entry;
        ++count;
    }
    return count;
}

Json to_json(const SoakMeter::Growth& growth) {
    return {{"from_step", growth.from_step},
            {"to_step", growth.to_step},
            {"first", growth.first},
            {"last", growth.last},
            {"per_1000_steps", growth.per_1000_steps}};
}

}  // namespace

void SoakMeter::sample(pid_t pid, std::uint64_t step) {
    if (lives_.empty() || lives_.back().pid != pid) lives_.push_back({pid, {}});
    lives_.back().samples.push_back({step, status_figure(pid, "RssAnon") * 1024,
                                     count_descriptors(pid), status_figure(pid, "Threads")});
}

double SoakMeter::latest_mib() const {
    return lives_.empty() ? 0 : lives_.back().samples.back().anonymous_bytes / (1 << 20);
}

const SoakMeter::Life* SoakMeter::longest() const {
    const auto life = std::max_element(
        lives_.begin(), lives_.end(),
        [](const Life& a, const Life& b) { return a.samples.size() < b.samples.size(); });
    return life == lives_.end() ? nullptr : &*life;
}

SoakMeter::Growth SoakMeter::growth(double Sample::*figure) const {
    Growth growth;
    const auto* life = longest();
    if (life == nullptr || life->samples.size() < 3) return growth;
    const std::vector<Sample> samples(
        life->samples.begin() + static_cast<std::ptrdiff_t>(life->samples.size() / 3),
        life->samples.end());
    growth.from_step = samples.front().step;
    growth.to_step = samples.back().step;
    const auto tenth = std::max<std::size_t>(1, samples.size() / 10);
    for (std::size_t i = 0; i < tenth; ++i) {
        growth.first += samples[i].*figure / static_cast<double>(tenth);
        growth.last += samples[samples.size() - 1 - i].*figure / static_cast<double>(tenth);
    }
    double mean_step = 0, mean = 0, above = 0, below = 0;
    const auto count = static_cast<double>(samples.size());
    for (const auto& sample : samples) {
        mean_step += static_cast<double>(sample.step) / count;
        mean += sample.*figure / count;
    }
    for (const auto& sample : samples) {
        const auto distance = static_cast<double>(sample.step) - mean_step;
        above += distance * (sample.*figure - mean);
        below += distance * distance;
    }
    growth.per_1000_steps = below > 0 ? above / below * 1000 : 0;
    return growth;
}

std::string SoakMeter::finding() const {
    const auto* life = longest();
    if (life == nullptr || life->samples.size() < kSamplesMin) return {};
    if (memory().over_run() > std::max(kMemoryNoiseBytes, memory().first / 4))
        return "memory of the daemon grows (" + name_ + ")";
    if (descriptors().over_run() > kDescriptorNoise)
        return "the daemon's descriptors grow in number (" + name_ + ")";
    return {};
}

std::string SoakMeter::text() const {
    const auto* life = longest();
    if (life == nullptr) return {};
    const auto held = memory(), open = descriptors(), running = threads();
    char text[400];
    std::snprintf(
        text, sizeof text,
        "  %-14s daemons %zu; the longest from step %llu to %llu\n"
        "    memory       %8.2f MiB -> %8.2f MiB   %+9.2f KiB in 1000 steps\n"
        "    descriptors  %8.1f     -> %8.1f       %+9.3f in 1000 steps\n"
        "    threads      %8.1f     -> %8.1f       %+9.3f in 1000 steps\n",
        name_.c_str(), lives_.size(), static_cast<unsigned long long>(life->samples.front().step),
        static_cast<unsigned long long>(life->samples.back().step), held.first / (1 << 20),
        held.last / (1 << 20), held.per_1000_steps / 1024, open.first, open.last,
        open.per_1000_steps, running.first, running.last, running.per_1000_steps);
    return text;
}

Json SoakMeter::json() const {
    return {{"daemons", lives_.size()},
            {"memory_bytes", to_json(memory())},
            {"descriptors", to_json(descriptors())},
            {"threads", to_json(threads())}};
}

}  // namespace refault::tests
