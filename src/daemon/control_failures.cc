// The requests about failures, redundancy and what is lost.
#include <unistd.h>

#include "daemon/control_api.h"
#include "daemon/failure_plan.h"
#include "daemon/failure_views.h"
#include "daemon/json_views.h"

namespace refault::daemon {

using base::Code;
using base::DeviceRange;
using base::Error;
using failure::FailureKind;

namespace {

base::Cred daemon_user() {
    return base::Cred{::geteuid(), ::getegid(), {}, 0};
}

Result<store::Store::Redundancy> redundancy_of(const Json& body) {
    store::Store::Redundancy wanted;
    if (body.contains("replicas")) {
        auto replicas = number_field(body, "replicas");
        if (!replicas) return replicas.error();
        if (*replicas == 0 || *replicas > store::kCopiesMax)
            return Error(Code::Invalid, "'replicas' is 1 to " + std::to_string(store::kCopiesMax));
        wanted.replicas = static_cast<std::uint32_t>(*replicas);
    }
    if (body.contains("on_loss")) {
        auto on_loss = text_field(body, "on_loss");
        if (!on_loss) return on_loss.error();
        if (*on_loss != "signal" && *on_loss != "rollback")
            return Error(Code::Invalid, "'on_loss' is signal or rollback");
        wanted.on_loss = *on_loss == "signal" ? store::OnLoss::Signal : store::OnLoss::Rollback;
    }
    if (!wanted.replicas && !wanted.on_loss)
        return Error(Code::Invalid, "nothing to set: give 'replicas' or 'on_loss'");
    return wanted;
}

// The part of the device that failed: "offset" and "length", or "all"; in whole pages, as memory
// fails.
Result<FailingRange> range_of(const Json& body, Pool& pool, const std::string& name) {
    auto id = pool.find_device(name);
    if (!id) return id.error();
    auto device = pool.store().device(*id);
    if (!device) return device.error();
    const DeviceRange whole(0, (*device)->capacity_bytes());
    auto is_all = flag_field(body, "all");
    if (!is_all) return is_all.error();
    if (*is_all && (body.contains("offset") || body.contains("length")))
        return Error(Code::Invalid, "say either 'all' or a range ('offset', 'length'), not both");
    if (*is_all) return FailingRange{*id, whole, true};
    if (!body.contains("offset") || !body.contains("length"))
        return Error(Code::Invalid, "say 'offset' and 'length', or 'all'");
    auto offset = number_field(body, "offset");
    if (!offset) return offset.error();
    auto length = number_field(body, "length");
    if (!length) return length.error();
    if (*length == 0 || *offset >= whole.end() || *length > whole.end() - *offset)
        return Error(Code::Invalid, "the range is empty or ends beyond the device's " +
                                        std::to_string(whole.end()) + " bytes");
    const DeviceRange pages(base::align_down(*offset, base::kPageBytes),
                            base::align_up(*offset + *length, base::kPageBytes));
    const auto range = pages.intersect(whole);
    if (range == whole) return Error(Code::Invalid, "that is all of the device: say so with 'all'");
    return FailingRange{*id, range, false};
}

// What only a device as a whole can do is not said of a part of it.
Result<FailureKind> kind_of(const Json& body, bool is_whole) {
    if (!body.contains("kind"))
        return is_whole ? FailureKind::SurpriseRemoval : FailureKind::Poison;
    auto text = text_field(body, "kind");
    if (!text) return text.error();
    const auto kind = failure::kind_of(*text);
    const bool needs_all =
        kind == FailureKind::SurpriseRemoval || kind == FailureKind::PlannedRemoval;
    if (!kind || (needs_all && !is_whole))
        return Error(Code::Invalid,
                     "'kind' is poison, io-error or checksum; with 'all' also surprise-removal or "
                     "planned-removal");
    return *kind;
}

Result<Json> fail(Pool& pool, const std::string& name, const Json& body) {
    auto is_dry_run = flag_field(body, "dry_run");
    if (!is_dry_run) return is_dry_run.error();
    auto failing = range_of(body, pool, name);
    if (!failing) return failing.error();
    auto kind = kind_of(body, failing->is_whole);
    if (!kind) return kind.error();
    if (*is_dry_run && *kind == FailureKind::PlannedRemoval)
        return Error(Code::Invalid, "a planned removal is a pull; see: refault device pull " +
                                        name + " --dry-run");
    if (*is_dry_run) return failure_plan(pool, name, *failing, *kind);
    auto record = pool.notify_failure(name, failing->range, *kind);
    if (!record) return record.error();
    for (const auto& one : pool.failures().records())
        if (one.number == *record) return to_json(one);
    return Json{{"failure", *record}};
}

// Answers how much of what was lost there can be used again.
Result<Json> punch(Pool& pool, const Json& body) {
    auto path = text_field(body, "path");
    if (!path) return path.error();
    auto offset = number_field(body, "offset");
    if (!offset) return offset.error();
    auto length = number_field(body, "length");
    if (!length) return length.error();
    auto is_dry_run = flag_field(body, "dry_run");
    if (!is_dry_run) return is_dry_run.error();
    auto attributes = pool.store().stat(*path, daemon_user());
    if (!attributes) return attributes.error();
    const auto end = base::align_up(attributes->size_bytes, base::kPageBytes);
    if (*length == 0 || *offset >= end || *length > end - *offset)
        return Error(Code::Invalid,
                     "the range is empty or ends beyond the file's last page: " + *path + " has " +
                         std::to_string(attributes->size_bytes) + " bytes");
    if (*offset % base::kPageBytes != 0 || *length % base::kPageBytes != 0)
        return Error(Code::Invalid, "punch whole pages of 4096 bytes");
    const auto range = base::FileRange::of_length(*offset, *length);
    std::uint64_t lost_bytes = 0;
    for (const auto& lost : pool.store().lost(attributes->inode, range))
        lost_bytes += lost.range.intersect(range).length();
    if (!*is_dry_run) RETURN_IF_ERROR(pool.files().punch(attributes->inode, *offset, *length));
    return Json{{"path", *path},
                {"offset", *offset},
                {"length", *length},
                {"dry_run", *is_dry_run},
                {"lost_bytes_taken_back", lost_bytes}};
}

Result<Json> detach(Pool& pool, const std::string& text) {
    auto body = parse_body(text, {"devices", "dry_run", "kill_after_ms", "timeout_ms", "pool"});
    if (!body) return body.error();
    auto names = text_list(*body, "devices");
    if (!names) return names.error();
    auto is_dry_run = flag_field(*body, "dry_run");
    if (!is_dry_run) return is_dry_run.error();
    if (*is_dry_run) {
        auto plan = pool.plan_detach(*names);
        if (!plan) return plan.error();
        return to_json(*plan);
    }
    failure::DetachOptions options;
    for (const char* name : {"kill_after_ms", "timeout_ms"}) {
        if (!body->contains(name)) continue;
        auto ms = number_field(*body, name);
        if (!ms) return ms.error();
        const std::chrono::milliseconds time(std::min<std::uint64_t>(*ms, INT32_MAX));
        if (std::string_view(name) == "timeout_ms")
            options.timeout = time;
        else
            options.kill_after = time;
    }
    if (body->contains("pool")) {
        auto pool_name = text_field(*body, "pool");
        if (!pool_name) return pool_name.error();
        options.pool_name = *pool_name;
    }
    RETURN_IF_ERROR(pool.detach(*names, options));
    return Json{{"accepted", *names}};
}

}  // namespace

void ControlApi::add_failure_routes(std::map<std::string, Handler>& routes) {
    using Action = std::function<Result<Json>(Pool&, const ApiRequest&)>;
    const auto with_pool = [this](Action action) -> Handler {
        return [this, action = std::move(action)](const ApiRequest& request) -> Result<Json> {
            auto open = pool();
            if (!open) return open.error();
            return action(**open, request);
        };
    };
    routes["POST /v1/devices/*/fail"] =
        with_pool([](Pool& pool, const ApiRequest& request) -> Result<Json> {
            auto body = parse_body(request.body, {"offset", "length", "all", "kind", "dry_run"});
            if (!body) return body.error();
            return fail(pool, request.name, *body);
        });
    routes["GET /v1/failures"] = with_pool([](Pool& pool, const ApiRequest&) -> Result<Json> {
        Json records = Json::array();
        for (const auto& record : pool.failures().records()) records.push_back(to_json(record));
        Json retired = Json::array();
        for (const auto& one : pool.retired())
            retired.push_back({{"device", pool.name_of(one.device)},
                               {"device_begin", one.range.begin()},
                               {"device_end", one.range.end()},
                               {"failures", one.failures}});
        return Json{{"failures", std::move(records)},
                    {"windows", to_json(pool.failures().windows())},
                    {"retire_after", failure::Recovery::kRetireAfter},
                    {"retired", std::move(retired)}};
    });
    routes["GET /v1/lost"] =
        with_pool([](Pool& pool, const ApiRequest&) -> Result<Json> { return lost_json(pool); });
    routes["GET /v1/resync"] = with_pool([](Pool& pool, const ApiRequest&) -> Result<Json> {
        // First: what a failure has cost is the resync's before the failure is at its end.
        const auto failures = pool.failures_under_way();
        Json json = to_json(pool.resync().status());
        json["failures_under_way"] = failures;
        if (failures > 0) json["is_running"] = true;
        std::uint64_t lost_bytes = 0;
        for (const auto& [inode, lost] : pool.store().all_lost()) lost_bytes += lost.range.length();
        json["lost_bytes"] = lost_bytes;
        return json;
    });
    routes["POST /v1/scrub"] = with_pool([](Pool& pool, const ApiRequest&) -> Result<Json> {
        RETURN_IF_ERROR(pool.check_nobody_is_absent());
        RETURN_IF_ERROR(pool.scrub().start());
        return Json{{"accepted", "scrub"}};
    });
    routes["GET /v1/scrub"] = with_pool([](Pool& pool, const ApiRequest&) -> Result<Json> {
        return to_json(pool.scrub().status());
    });
    routes["POST /v1/scrub/cancel"] = with_pool([](Pool& pool, const ApiRequest&) -> Result<Json> {
        RETURN_IF_ERROR(pool.scrub().cancel());
        return Json{{"cancelled", "scrub"}};
    });
    routes["POST /v1/detach"] =
        with_pool([](Pool& pool, const ApiRequest& request) { return detach(pool, request.body); });
    routes["GET /v1/detach"] = with_pool([](Pool& pool, const ApiRequest&) -> Result<Json> {
        return to_json(pool.detaching().status());
    });
    routes["POST /v1/detach/cancel"] = with_pool([](Pool& pool, const ApiRequest&) -> Result<Json> {
        RETURN_IF_ERROR(pool.detaching().cancel());
        return Json{{"cancelled", "detach"}};
    });
    routes["POST /v1/files/set"] =
        with_pool([](Pool& pool, const ApiRequest& request) -> Result<Json> {
            auto body = parse_body(request.body, {"path", "replicas", "on_loss"});
            if (!body) return body.error();
            auto path = text_field(*body, "path");
            if (!path) return path.error();
            auto wanted = redundancy_of(*body);
            if (!wanted) return wanted.error();
            RETURN_IF_ERROR(pool.store().set_redundancy(*path, *wanted, daemon_user()));
            pool.resync().kick();
            auto attributes = pool.store().stat(*path, daemon_user());
            if (!attributes) return attributes.error();
            return to_json(*attributes);
        });
    routes["POST /v1/files/punch"] =
        with_pool([](Pool& pool, const ApiRequest& request) -> Result<Json> {
            auto body = parse_body(request.body, {"path", "offset", "length", "dry_run"});
            if (!body) return body.error();
            return punch(pool, *body);
        });
}

}  // namespace refault::daemon
