// Which pool is open, the routes' table, and the requests on pools and devices.
#include "daemon/control_api.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "daemon/json_views.h"

namespace refault::daemon {

using base::Code;
using base::Error;
using base::MutexLock;

namespace {

Error wrong_field(const char* name, const char* what) {
    return Error(Code::Invalid, std::string("'") + name + "' is missing or is not " + what);
}

Result<std::vector<device::DeviceSpec>> parse_specs(const std::vector<std::string>& texts) {
    std::vector<device::DeviceSpec> specs;
    for (const auto& text : texts) {
        auto spec = device::parse_device_spec(text, "device" + std::to_string(specs.size()));
        if (!spec) return spec.error();
        specs.push_back(std::move(*spec));
    }
    return specs;
}

}  // namespace

Result<Json> parse_body(const std::string& body,
                        std::initializer_list<std::string_view> known_fields) {
    auto json = Json::parse(body.empty() ? "{}" : body, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded() || !json.is_object())
        return Error(Code::Invalid, "the body is not a JSON object");
    for (const auto& [name, value] : json.items())
        if (std::find(known_fields.begin(), known_fields.end(), name) == known_fields.end())
            return Error(Code::Invalid,
                         "'" + name.substr(0, 64) + "' is not a field of this request");
    return json;
}

Result<std::string> text_field(const Json& body, const char* name) {
    const auto at = body.find(name);
    if (at == body.end() || !at->is_string()) return wrong_field(name, "text");
    return at->get<std::string>();
}

Result<std::vector<std::string>> text_list(const Json& body, const char* name) {
    const auto at = body.find(name);
    if (at == body.end() || !at->is_array() || at->empty())
        return wrong_field(name, "a list of text");
    std::vector<std::string> list;
    for (const auto& entry : *at) {
        if (!entry.is_string()) return wrong_field(name, "a list of text");
        list.push_back(entry.get<std::string>());
    }
    return list;
}

Result<std::uint64_t> number_field(const Json& body, const char* name) {
    const auto at = body.find(name);
    if (at == body.end() || !at->is_number_unsigned()) return wrong_field(name, "a whole number");
    return at->get<std::uint64_t>();
}

Result<bool> flag_field(const Json& body, const char* name) {
    const auto at = body.find(name);
    if (at == body.end()) return false;
    if (!at->is_boolean()) return wrong_field(name, "true or false");
    return at->get<bool>();
}

Result<std::uint64_t> number_query(const ApiRequest& request, const char* name,
                                   std::optional<std::uint64_t> fallback) {
    const auto at = request.query.find(name);
    if (at == request.query.end() && fallback) return *fallback;
    if (at == request.query.end()) return wrong_field(name, "a whole number");
    std::uint64_t number = 0;
    const auto& text = at->second;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (failure != std::errc{} || end != text.data() + text.size())
        return wrong_field(name, "a whole number");
    return number;
}

Result<std::string> text_query(const ApiRequest& request, const char* name) {
    const auto at = request.query.find(name);
    if (at == request.query.end()) return wrong_field(name, "text");
    return at->second;
}

ControlApi::~ControlApi() {
    base::discard(close_pool(), "there may be none");
}

Result<std::shared_ptr<Pool>> ControlApi::pool() const {
    MutexLock lock(mutex_);
    if (!pool_ && is_opening_)
        return Error(Code::Busy, "a pool is being opened; try again when refault status shows it");
    if (!pool_)
        return Error(
            Code::NotFound,
            "no pool is open; make one with: refault pool create NAME --device SPEC..., or open "
            "one with: refault pool open SPEC...");
    return pool_;
}

bool ControlApi::is_open(const Pool* pool) const {
    MutexLock lock(mutex_);
    return pool_.get() == pool;
}

Status ControlApi::keep_opened(const std::function<Result<std::unique_ptr<Pool>>()>& open) {
    const auto set_opening = [this](bool is_opening) {
        MutexLock lock(mutex_);
        is_opening_ = is_opening;
    };
    set_opening(true);
    // Also when there is no memory for it.
    const std::shared_ptr<void> until_done(nullptr, [&](void*) { set_opening(false); });
    auto opened = open();
    if (!opened) return opened.error();
    keep(std::move(*opened));
    return {};
}

void ControlApi::keep(std::unique_ptr<Pool> pool) {
    {
        MutexLock lock(mutex_);
        has_pool_in_use_ = true;
    }
    std::shared_ptr<Pool> kept(pool.release(), [this](Pool* last) {
        delete last;
        MutexLock lock(mutex_);
        has_pool_in_use_ = false;
        released_.notify_all();
    });
    MutexLock lock(mutex_);
    pool_ = std::move(kept);
}

Status ControlApi::create_pool(const std::string& name, const std::vector<std::string>& specs) {
    MutexLock one_at_a_time(change_mutex_);
    if (auto open = pool())
        return Error(Code::Busy,
                     "pool " + (*open)->store().pool_name() + " is open; close it first");
    if (name.empty() || name.size() > 63)
        return Error(Code::Invalid, "the pool's name has 1 to 63 characters");
    auto parsed = parse_specs(specs);
    if (!parsed) return parsed.error();
    return keep_opened([&] { return Pool::create(name, *parsed, options_, events_); });
}

Status ControlApi::open_pool(const std::vector<std::string>& specs, bool is_degraded) {
    MutexLock one_at_a_time(change_mutex_);
    if (auto open = pool())
        return Error(Code::Busy,
                     "pool " + (*open)->store().pool_name() + " is open; close it first");
    auto parsed = parse_specs(specs);
    if (!parsed) return parsed.error();
    return keep_opened([&] { return Pool::open(*parsed, options_, events_, is_degraded); });
}

Status ControlApi::close_pool() {
    MutexLock one_at_a_time(change_mutex_);
    std::shared_ptr<Pool> closing;
    {
        MutexLock lock(mutex_);
        closing.swap(pool_);
    }
    if (!closing) return Error(Code::NotFound, "no pool is open");
    const std::string name = closing->store().pool_name();
    closing.reset();
    {
        MutexLock lock(mutex_);
        while (has_pool_in_use_) released_.wait(mutex_);
    }
    events_.publish({"pool-closed", {{"pool", name}}});
    return {};
}

std::map<std::string, ControlApi::Handler> ControlApi::routes() {
    std::map<std::string, Handler> routes;
    add_pool_routes(routes);
    add_device_routes(routes);
    add_file_routes(routes);
    add_failure_routes(routes);
    add_mount_routes(routes);
    add_upgrade_route(routes);
    add_view_routes(routes);
    if (debugging_ == Debugging::FaultPoints) add_fault_point_routes(routes);
    return routes;
}

void ControlApi::add_pool_routes(std::map<std::string, Handler>& routes) {
    routes["POST /v1/pool/create"] = [this](const ApiRequest& request) -> Result<Json> {
        auto body = parse_body(request.body, {"name", "devices"});
        if (!body) return body.error();
        auto name = text_field(*body, "name");
        if (!name) return name.error();
        auto devices = text_list(*body, "devices");
        if (!devices) return devices.error();
        RETURN_IF_ERROR(create_pool(*name, *devices));
        return status();
    };
    routes["POST /v1/pool/open"] = [this](const ApiRequest& request) -> Result<Json> {
        auto body = parse_body(request.body, {"devices", "degraded"});
        if (!body) return body.error();
        auto devices = text_list(*body, "devices");
        if (!devices) return devices.error();
        auto is_degraded = flag_field(*body, "degraded");
        if (!is_degraded) return is_degraded.error();
        RETURN_IF_ERROR(open_pool(*devices, *is_degraded));
        return status();
    };
    routes["POST /v1/pool/close"] = [this](const ApiRequest&) -> Result<Json> {
        RETURN_IF_ERROR(close_pool());
        return Json{{"closed", true}};
    };
    routes["POST /v1/pool/check"] = [this](const ApiRequest&) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        return Json{{"problems", (*open)->store().check()}};
    };
    routes["GET /v1/status"] = [this](const ApiRequest&) { return status(); };
}

void ControlApi::add_device_routes(std::map<std::string, Handler>& routes) {
    routes["GET /v1/devices"] = [this](const ApiRequest&) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        Json devices = Json::array();
        for (const auto& device : (*open)->devices())
            devices.push_back(device_json(**open, device));
        return Json{{"devices", std::move(devices)}};
    };
    routes["GET /v1/devices/"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        auto device = (*open)->device(request.name);
        if (!device) return device.error();
        return device_json(**open, *device);
    };
    routes["POST /v1/devices"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        auto body = parse_body(request.body, {"spec", "slot", "yes"});
        if (!body) return body.error();
        auto text = text_field(*body, "spec");
        if (!text) return text.error();
        auto spec = device::parse_device_spec(*text);
        if (!spec) return spec.error();
        std::string slot;
        if (body->contains("slot")) {
            auto given = text_field(*body, "slot");
            if (!given) return given.error();
            slot = *given;
        }
        auto may_wipe = flag_field(*body, "yes");
        if (!may_wipe) return may_wipe.error();
        auto name = (*open)->add_device(*spec, slot, *may_wipe);
        if (!name) return name.error();
        auto added = (*open)->device(*name);
        if (!added) return added.error();
        return device_json(**open, *added);
    };
    routes["POST /v1/pull"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        auto body = parse_body(request.body, {"devices", "dry_run", "rate_bytes_per_s",
                                              "timeout_ms", "accept_pinned"});
        if (!body) return body.error();
        auto names = text_list(*body, "devices");
        if (!names) return names.error();
        auto is_dry_run = flag_field(*body, "dry_run");
        if (!is_dry_run) return is_dry_run.error();
        failure::RemovalOptions options;
        auto accepts_pinned = flag_field(*body, "accept_pinned");
        if (!accepts_pinned) return accepts_pinned.error();
        options.accepts_pinned = *accepts_pinned;
        for (const auto& [key, set] :
             std::initializer_list<std::pair<const char*, std::function<void(std::uint64_t)>>>{
                 {"rate_bytes_per_s",
                  [&](std::uint64_t value) { options.rate_bytes_per_s = value; }},
                 {"timeout_ms", [&](std::uint64_t value) {
                      options.timeout = std::chrono::milliseconds(value);
                  }}}) {
            if (!body->contains(key)) continue;
            auto number = number_field(*body, key);
            if (!number) return number.error();
            if (*number == 0 || *number > INT64_MAX / 1'000'000)
                return wrong_field(key, "a positive number within reason");
            set(*number);
        }
        if (*is_dry_run) {
            auto plan = (*open)->plan_pull(*names);
            if (!plan) return plan.error();
            return to_json(*plan);
        }
        RETURN_IF_ERROR((*open)->pull(*names, options));
        return Json{{"accepted", *names}};
    };
    routes["POST /v1/devices/*/cancel"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        RETURN_IF_ERROR((*open)->removals().cancel(request.name));
        return Json{{"cancelled", request.name}};
    };
    routes["POST /v1/devices/*/forget"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        RETURN_IF_ERROR((*open)->forget_lost(request.name));
        return Json{{"forgotten", request.name}};
    };
    routes["POST /v1/devices/*/prove"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        auto report = (*open)->prove(request.name);
        if (!report) return report.error();
        return to_json(*report);
    };
}

}  // namespace refault::daemon
