// The control API without its transport: what each request does and answers (docs/control-api.md).
// The HTTP server turns requests into ApiRequest and Errors into statuses. Thread-safe. mutex_
// guards which pool is open; a request keeps its pool alive by a shared pointer.
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "base/result.h"
#include "daemon/event_log.h"
#include "daemon/health.h"
#include "daemon/pool.h"
#include "daemon/upgrade_desk.h"

namespace refault::daemon {

using Json = nlohmann::json;

struct ApiRequest {
    std::string name;  // the variable part of the path, if the route has one
    std::map<std::string, std::string> query;  // decoded
    std::string body;
};

// Fields of a request, checked: a missing, wrong or unknown one is an Invalid error that names it.
// (Unknown ones are refused because a misspelt "dry_run" must not pull a device.)
Result<Json> parse_body(const std::string& body,
                        std::initializer_list<std::string_view> known_fields);
Result<std::string> text_field(const Json& body, const char* name);
Result<std::vector<std::string>> text_list(const Json& body, const char* name);
Result<std::uint64_t> number_field(const Json& body, const char* name);
// False when it is not there.
Result<bool> flag_field(const Json& body, const char* name);
// From the query; `fallback` when it is not there.
Result<std::uint64_t> number_query(const ApiRequest& request, const char* name,
                                   std::optional<std::uint64_t> fallback = {});
Result<std::string> text_query(const ApiRequest& request, const char* name);

// Where the pool is mounted.
Json mounts_json(Pool& pool);

class ControlApi {
  public:
    enum class Debugging { Off, FaultPoints };
    // `desk`: where to ask for being replaced; null when nobody listens there.
    ControlApi(EventLog& events, PoolOptions options, Debugging debugging = Debugging::Off,
               UpgradeDesk* desk = nullptr)
        : events_(events), options_(std::move(options)), debugging_(debugging), desk_(desk) {
        if (!options_.server.refusals)
            options_.server.refusals = std::make_shared<session::Refusals>();
    }
    ~ControlApi();

    // Route "GET /v1/devices/" answers for any name behind it.
    using Handler = std::function<Result<Json>(const ApiRequest&)>;
    std::map<std::string, Handler> routes();

    // NotFound, with what to do, when no pool is open; Busy while one is being opened.
    Result<std::shared_ptr<Pool>> pool() const;
    // Of what pool() said.
    static bool is_being_opened(const Result<std::shared_ptr<Pool>>& pool) {
        return !pool && pool.error().code() == base::Code::Busy;
    }
    // False once the pool is being closed: a long request ends then, because the close waits for
    // it.
    bool is_open(const Pool* pool) const;
    EventLog& events() { return events_; }
    // Where refusals are counted, those of the transport as well.
    const std::shared_ptr<session::Refusals>& refusals() const { return options_.server.refusals; }
    // What GET /v1/limits and the status show. Set before the first request.
    void set_limits(Json limits) { limits_ = std::move(limits); }
    // What probes and scrapes get; no route of the above, since the status or the type of their
    // answers is another.
    Health health() const;
    std::string metrics() const;

    Status create_pool(const std::string& name, const std::vector<std::string>& specs);
    Status open_pool(const std::vector<std::string>& specs, bool is_degraded);
    // On return the devices are closed: it waits for requests under way.
    Status close_pool();

    // For the main thread, which replaces the program. After begin_hand_over() clients wait, until
    // it is called off or the next program answers them; hand_over() cannot be called off.
    Status begin_hand_over();
    Result<HandOver> hand_over();
    Status take_over(HandOver& handed_over);

  private:
    Status keep_opened(const std::function<Result<std::unique_ptr<Pool>>()>& open);
    // It is the open pool from here on.
    void keep(std::unique_ptr<Pool> pool);
    void add_pool_routes(std::map<std::string, Handler>& routes);
    void add_device_routes(std::map<std::string, Handler>& routes);
    void add_file_routes(std::map<std::string, Handler>& routes);
    void add_failure_routes(std::map<std::string, Handler>& routes);
    void add_fault_point_routes(std::map<std::string, Handler>& routes);
    void add_mount_routes(std::map<std::string, Handler>& routes);
    void add_upgrade_route(std::map<std::string, Handler>& routes);
    void add_view_routes(std::map<std::string, Handler>& routes);
    Result<Json> status() const;
    // The limits in force, and how many were refused for which reason.
    Json limits() const;
    Result<Json> locate(const ApiRequest& request) const;

    EventLog& events_;
    PoolOptions options_;
    Json limits_ = Json::object();
    const Debugging debugging_;
    UpgradeDesk* const desk_;
    base::Mutex change_mutex_{
        base::LockRank::ControlChange};  // one create, open or close at a time; before mutex_
    mutable base::Mutex mutex_{base::LockRank::Control};
    // Shared with requests under way, which may still be answered while the pool is being closed.
    std::shared_ptr<Pool> pool_ GUARDED_BY(mutex_);
    bool is_opening_ GUARDED_BY(mutex_) = false;
    // From opening a pool until the last request has let go of it.
    bool has_pool_in_use_ GUARDED_BY(mutex_) = false;
    base::CondVar released_;
};

}  // namespace refault::daemon
