// The requests that look: status, removals, reverse map, mappings, sessions, events.
#include <unistd.h>

#include <algorithm>

#include "base/version.h"
#include "daemon/capabilities.h"
#include "daemon/control_api.h"
#include "daemon/failure_views.h"
#include "daemon/json_views.h"
#include "sys/privileges.h"
#include "sys/userfaultfd.h"

namespace refault::daemon {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr milliseconds kWaitMax{30'000};
constexpr milliseconds kWaitStep{500};

// What the machine gives us, asked anew each time: an administrator may change it while the daemon
// runs.
Json kernel_facts() {
    auto probe = sys::create_userfaultfd();
    Json facts = {{"userfaultfd", probe.ok()}};
    if (probe)
        facts["handles_kernel_faults"] = probe->handles_kernel_faults;
    else
        facts["reason"] = probe.error().message();
    return facts;
}

// As the kernel tells them, of the thread that answers: all threads have the same.
Json rights_facts() {
    const auto rights = sys::read_privileges();
    if (!rights) return {{"reason", rights.error().message()}};
    return {{"user", ::geteuid()},
            {"capabilities", capability_names(rights->effective_capabilities)},
            {"no_new_privileges", rights->has_no_new_privileges},
            {"filters_system_calls", rights->seccomp_mode == 2}};
}

bool lies_on(const Json& mapping, const std::string& device) {
    const auto& ranges = mapping["device_ranges"];
    return std::any_of(ranges.begin(), ranges.end(),
                       [&](const Json& range) { return range["device"] == device; });
}

}  // namespace

Json ControlApi::limits() const {
    Json refused = Json::array();
    for (const auto& one : refusals()->counts())
        refused.push_back({{"channel", one.channel}, {"reason", one.reason}, {"count", one.count}});
    return {{"limits", limits_}, {"refused", std::move(refused)}};
}

Result<Json> ControlApi::status() const {
    Json facts = {{"pid", ::getpid()},           {"version", base::kVersion},
                  {"kernel", kernel_facts()},    {"rights", rights_facts()},
                  {"health", to_json(health())}, {"last_event", events_.last_sequence()}};
    if (desk_ != nullptr) {
        const auto view = desk_->view();
        facts["upgrades"] = {{"count", view.count}, {"error", view.error}};
    }
    facts.update(limits());
    auto open = pool();
    if (!open) {
        facts["pool"] = nullptr;
        facts["state"] = is_being_opened(open) ? "opening" : "none";
        return facts;
    }
    auto& store = (*open)->store();
    std::uint64_t capacity = 0, data = 0, free_bytes = 0;
    Json devices = Json::array();
    for (const auto& device : (*open)->devices()) {
        capacity += device.usage.capacity_bytes;
        data += device.usage.data_bytes;
        if (!device.usage.is_leaving) free_bytes += device.usage.free_bytes;
        devices.push_back(device_json(**open, device));
    }
    Json removals = Json::array();
    for (const auto& removal : (*open)->removals().all())
        if (!failure::is_ended(removal.phase)) removals.push_back(to_json(removal));
    const auto log = store.log_status();
    facts.update({{"pool", store.pool_name()},
                  {"state", "open"},
                  {"uuid", store.pool_uuid().to_string()},
                  {"capacity_bytes", capacity},
                  {"data_bytes", data},
                  {"free_bytes", free_bytes},
                  {"devices", std::move(devices)},
                  {"removals", std::move(removals)},
                  {"losses", losses_json(**open)},
                  {"sessions", (*open)->registry().sessions().size()},
                  {"mounts", mounts_json(**open)},
                  {"metadata",
                   {{"epoch", log.epoch},
                    {"log_bytes", log.log_bytes},
                    {"checkpoint_bytes", log.checkpoint_bytes},
                    {"copies", log.devices.size()}}}});
    return facts;
}

void ControlApi::add_view_routes(std::map<std::string, Handler>& routes) {
    routes["GET /v1/limits"] = [this](const ApiRequest&) -> Result<Json> { return limits(); };
    routes["GET /v1/removals"] = [this](const ApiRequest&) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        Json removals = Json::array();
        for (const auto& removal : (*open)->removals().all()) removals.push_back(to_json(removal));
        return Json{{"removals", std::move(removals)}};
    };
    routes["GET /v1/removals/"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        auto seen = number_query(request, "wait_version", 0);
        if (!seen) return seen.error();
        auto wait_ms = number_query(request, "wait_ms", 0);
        if (!wait_ms) return wait_ms.error();
        auto& removals = (*open)->removals();
        if (auto known = removals.status(request.name); !known) return known.error();
        const auto deadline =
            steady_clock::now() +
            std::min(milliseconds(std::min<std::uint64_t>(*wait_ms, INT32_MAX)), kWaitMax);
        std::uint64_t version = removals.wait_for_change(*seen, milliseconds(0));
        while (version == *seen && is_open(open->get()) && steady_clock::now() < deadline)
            version = removals.wait_for_change(*seen, kWaitStep);
        auto status = removals.status(request.name);
        if (!status) return status.error();
        Json json = to_json(*status);
        json["version"] = version;
        return json;
    };
    routes["GET /v1/locate"] = [this](const ApiRequest& request) { return locate(request); };
    routes["GET /v1/maps"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        const auto path = text_query(request, "path");
        const auto device = text_query(request, "device");
        if (device)
            if (auto known = (*open)->find_device(*device); !known) return known.error();
        Json mappings = Json::array();
        for (const auto& mapping : (*open)->registry().mappings()) {
            if (path && mapping.path != *path) continue;
            Json json = to_json(mapping, (*open)->store());
            if (!device || lies_on(json, *device)) mappings.push_back(std::move(json));
        }
        return Json{{"mappings", std::move(mappings)}};
    };
    routes["GET /v1/sessions"] = [this](const ApiRequest&) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        Json sessions = Json::array();
        for (const auto& session : (*open)->registry().sessions())
            sessions.push_back(to_json(session));
        return Json{{"sessions", std::move(sessions)}};
    };
    routes["GET /v1/events/list"] = [this](const ApiRequest& request) -> Result<Json> {
        auto after = number_query(request, "after", 0);
        if (!after) return after.error();
        Json list = Json::array();
        for (const auto& event : events_.events_after(*after, EventLog::kEventsKept))
            list.push_back(to_json(event));
        return Json{{"events", std::move(list)}};
    };
}

}  // namespace refault::daemon
