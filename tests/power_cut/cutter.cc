// From points to images: which of the pending changes have reached the medium.
#include "tests/power_cut/cutter.h"

#include <algorithm>

namespace refault::power_cut {

using device::MediumCall;
using store::testing::TempDirectory;

namespace {

constexpr std::size_t kFailuresMax = 12;

const char* name_of(MediumCall::Kind kind) {
    constexpr std::array kNames{"create", "write",  "set size", "punch",     "allocate",
                                "sync",   "rename", "remove",   "sync names"};
    return kNames.at(static_cast<std::size_t>(kind));
}

std::string text_of(const Event& event) {
    return std::string(info_of(event.call.row).name) + ": " + name_of(event.call.kind) + " " +
           event.directory + "/" + event.call.name;
}

std::string text_of(const Reached& reached) {
    std::string text;
    for (const bool one : reached) text += one ? '1' : '0';
    // The oldest are of least interest.
    constexpr std::size_t kShown = 64;
    return text.size() > kShown ? "..." + text.substr(text.size() - kShown) : text;
}

}  // namespace

// The newest changes are where something is under way, so of many they are taken more often.
std::vector<Reached> Cutter::choices(std::size_t pending) {
    std::vector<Reached> all{Reached(pending, false)};
    if (pending == 0) return all;
    all.emplace_back(pending, true);
    std::set<std::size_t> ones;
    if (how_.singles >= pending)
        for (std::size_t i = 0; i < pending; ++i) ones.insert(i);
    else
        for (std::size_t i = 0; i < how_.singles; ++i)
            ones.insert(random_.one_in(2)
                            ? random_.below(pending)
                            : pending - 1 - random_.below(std::min<std::size_t>(pending, 8)));
    for (const auto one : ones) {
        all.emplace_back(pending, true);
        all.back()[one] = false;
        all.emplace_back(pending, false);
        all.back()[one] = true;
    }
    for (std::size_t i = 0; i < how_.random; ++i) {
        auto& some = all.emplace_back(pending);
        for (std::size_t k = 0; k < pending; ++k) some[k] = random_.one_in(2);
    }
    return all;
}

void Cutter::look(const Image& image, const Expectation& expected, const std::string& where,
                  bool may_cut_again) {
    if (counts_.failures >= kFailuresMax) return;
    if (!seen_.emplace(hash_of(image), &expected).second) return;
    ++(may_cut_again ? counts_.images : counts_.images_again);
    {
        const TempDirectory home;
        write_image(image, home.path());
        const auto problems = check_image(home.path(), expected);
        if (!problems.lines.empty()) {
            ++counts_.failures;
            std::string text;
            for (const auto& line : problems.lines) text += "\n    " + line;
            ADD_FAILURE() << where << ", in \"" << expected.step << "\":" << text;
            return;
        }
    }
    if (may_cut_again && random_.one_in(how_.again_one_in)) cut_again(image, expected, where);
}

// The power goes once more, while the pool is opened.
void Cutter::cut_again(const Image& image, const Expectation& expected, const std::string& where) {
    const TempDirectory home;
    write_image(image, home.path());
    std::vector<Event> events;
    const auto trace = [&](const std::string& directory) {
        return [&, directory](const MediumCall& call) {
            events.push_back({directory, call, {call.bytes.begin(), call.bytes.end()}, 0});
            events.back().call.bytes = events.back().bytes;
        };
    };
    (void)check_image(home.path(), expected, trace);
    Disk disk(image);
    for (const auto& event : events) {
        disk.apply(event.directory, event.call);
        const auto pending = disk.pending_count();
        Reached some(pending);
        for (std::size_t k = 0; k < pending; ++k) some[k] = random_.one_in(2);
        look(disk.image(some), expected, where + ", then opened and cut at " + text_of(event),
             false);
    }
}

void Cutter::cut(const Disk& disk, const Expectation& expected, const std::string& where) {
    for (const auto& reached : choices(disk.pending_count()))
        look(disk.image(reached), expected, where + " [" + text_of(reached) + "]", true);
}

CutCounts Cutter::run() {
    Disk disk;
    for (std::size_t i = 0; i < recording_.events().size(); ++i) {
        const auto& event = recording_.events()[i];
        disk.apply(event.directory, event.call);
        counts_.rows.insert(event.call.row);
        ++counts_.points;
        cut(disk, recording_.expectations().at(event.expectation),
            "point " + std::to_string(i) + ", " + text_of(event));
    }
    return counts_;
}

}  // namespace refault::power_cut
