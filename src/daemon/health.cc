// Gathering and judging what a probe is told.
#include "daemon/health.h"

#include <algorithm>
#include <set>

#include "base/units.h"
#include "failure/removal.h"

namespace refault::daemon {

using base::format_size;
using DeviceState = HealthFacts::DeviceState;

namespace {

constexpr std::uint64_t kMetadataCopiesWanted = 2;

std::set<std::string> asked_of(Pool& pool) {
    std::set<std::string> names;
    for (const auto& removal : pool.removals().all())
        if (!failure::is_ended(removal.phase)) names.insert(removal.device);
    const auto detach = pool.detaching().status();
    if (failure::is_running(detach.phase))
        names.insert(detach.devices.begin(), detach.devices.end());
    return names;
}

// A device that leaves though nobody asked for it has lost files (FailureService::examine).
DeviceState state_of(const DeviceView& device, const std::set<std::string>& leaving_before,
                     const std::set<std::string>& asked_to_leave) {
    if (device.is_lost) return DeviceState::Lost;
    if (device.usage.has_failed) return DeviceState::Failing;
    if (!device.usage.is_leaving) return DeviceState::InService;
    const bool is_damaged =
        leaving_before.contains(device.name) && !asked_to_leave.contains(device.name);
    return is_damaged ? DeviceState::Damaged : DeviceState::Leaving;
}

HealthReason about(const HealthFacts::Device& device) {
    const auto& name = device.name;
    switch (device.state) {
        case DeviceState::Lost:
            return {"device-lost", name,
                    "device " + name +
                        " is lost; bring it back, or another in its place, by: refault device "
                        "add " +
                        name + "=SPEC"};
        case DeviceState::Failing:
            return {"device-failing", name,
                    "device " + name + " has failed; what lies there goes to other devices"};
        case DeviceState::Damaged:
            return {"device-damaged", name,
                    "files of device " + name +
                        " are gone and it gets nothing new; take it out by: refault device pull " +
                        name};
        case DeviceState::InService:
        case DeviceState::Leaving:
            break;
    }
    return {};
}

bool may_hold_metadata(const HealthFacts::Device& device) {
    return device.state == DeviceState::InService;
}

void judge_metadata(const HealthFacts& facts, Health& health) {
    if (facts.is_metadata_lost) {
        health.is_ready = false;
        health.reasons.push_back(
            {"metadata-lost", "",
             "no device has the pool's metadata: what is mapped goes on, changes are refused; add "
             "a device by: refault device add NAME=SPEC"});
        return;
    }
    // With one device there can be no second copy: that was the operator's choice.
    const auto able = std::count_if(facts.devices.begin(), facts.devices.end(), may_hold_metadata);
    if (facts.metadata_copies < kMetadataCopiesWanted && able >= 2)
        health.reasons.push_back(
            {"metadata-one-copy", "",
             "the pool's metadata has " + std::to_string(facts.metadata_copies) +
                 " good copy although it has " + std::to_string(able) +
                 " devices: these have no room for it, or cannot be written; add a device"});
}

}  // namespace

HealthFacts health_facts(Pool& pool) {
    HealthFacts facts;
    auto& store = pool.store();
    // Before the devices: a copy that is gone because its device leaves is not missed.
    const auto log = store.log_status();
    facts.is_metadata_lost = log.is_lost;
    facts.metadata_copies = log.good_copies;
    // A plan marks devices as leaving as well, for its own time and under the lock that all()
    // takes: who leaves without a request does so before and after it.
    std::set<std::string> leaving_before;
    for (const auto& usage : store.usage())
        if (usage.is_leaving) leaving_before.insert(usage.name);
    const auto asked_to_leave = asked_of(pool);
    const auto devices = pool.devices();
    // One that the store has forgotten is none any more, though its removal has not said so yet.
    std::set<std::string> known;
    for (const auto& usage : store.usage()) known.insert(usage.name);
    for (const auto& device : devices)
        if (device.is_lost || (device.is_member && known.contains(device.name)))
            facts.devices.push_back(
                {device.name, state_of(device, leaving_before, asked_to_leave)});
    std::set<base::InodeNo> lost_files;
    for (const auto& [inode, lost] : store.all_lost()) {
        facts.lost_bytes += lost.range.length();
        lost_files.insert(inode);
    }
    facts.lost_files = lost_files.size();
    facts.unplaced_copy_bytes = pool.resync().status().short_bytes;
    std::set<std::pair<base::DeviceId, std::uint64_t>> retired;
    for (const auto& one : pool.retired()) retired.emplace(one.device, one.range.begin());
    facts.retired_bytes = retired.size() * base::kPageBytes;
    if (const auto back = pool.check_nobody_is_absent(); !back)
        facts.absent = back.error().message();
    return facts;
}

Health judge(const HealthFacts& facts) {
    Health health;
    if (!facts.has_pool) {
        health.is_ready = false;
        health.reasons.push_back(
            facts.is_opening
                ? HealthReason{"pool-opening", "", "a pool is being opened; it is there soon"}
                : HealthReason{"no-pool", "",
                               "no pool is open; open one with: refault pool open SPEC..."});
        return health;
    }
    judge_metadata(facts, health);
    for (const auto& device : facts.devices)
        if (auto reason = about(device); !reason.code.empty())
            health.reasons.push_back(std::move(reason));
    if (facts.lost_bytes > 0)
        health.reasons.push_back(
            {"ranges-lost", "",
             format_size(facts.lost_bytes) + " in " + std::to_string(facts.lost_files) +
                 (facts.lost_files == 1 ? " file" : " files") + " are lost; see: refault lost"});
    if (facts.unplaced_copy_bytes > 0)
        health.reasons.push_back({"copies-unplaced", "",
                                  "copies of " + format_size(facts.unplaced_copy_bytes) +
                                      " find no place; add a device, or ask for fewer copies"});
    if (facts.retired_bytes > 0)
        health.reasons.push_back({"pages-retired", "",
                                  format_size(facts.retired_bytes) +
                                      " of memory failed again and again and are not used any "
                                      "more; see: refault failures"});
    if (!facts.absent.empty())
        health.reasons.push_back({"clients-absent", "",
                                  facts.absent +
                                      ". Until then nothing is moved, repaired or pulled, and a "
                                      "mount of the earlier daemon is not made again"});
    return health;
}

nlohmann::json to_json(const Health& health) {
    nlohmann::json answer = {{"status", health.status()}};
    if (health.is_ok()) return answer;
    auto& reasons = answer["reasons"] = nlohmann::json::array();
    for (const auto& reason : health.reasons) {
        reasons.push_back({{"code", reason.code}, {"message", reason.message}});
        if (!reason.device.empty()) reasons.back()["device"] = reason.device;
    }
    return answer;
}

}  // namespace refault::daemon
