// The requests by which tests make steps of the failure pipeline fail (fault_points.h). Answered by
// a daemon that was started with --fault-points alone.
#include "daemon/control_api.h"

namespace refault::daemon {

using base::Code;
using base::Error;

void ControlApi::add_fault_point_routes(std::map<std::string, Handler>& routes) {
    routes["GET /v1/debug/fault-points"] = [this](const ApiRequest&) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        Json points = Json::array();
        for (const auto& info : failure::kFaultPoints)
            points.push_back({{"name", info.name},
                              {"failing", info.failing},
                              {"passed", (*open)->fault_points().passed(info.point)},
                              {"failed", (*open)->fault_points().failed(info.point)}});
        return Json{{"fault_points", std::move(points)}};
    };
    routes["POST /v1/debug/fault-points"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        auto body = parse_body(request.body, {"name", "times", "action"});
        if (!body) return body.error();
        auto name = text_field(*body, "name");
        if (!name) return name.error();
        auto times = number_field(*body, "times");
        if (!times) return times.error();
        const auto point = failure::fault_point_of(*name);
        if (!point)
            return Error(Code::NotFound,
                         "there is no fault point '" + *name + "'; GET lists their names");
        using Action = failure::FaultPoints::Action;
        const std::map<std::string, Action> actions{
            {"fail", Action::Fail}, {"kill", Action::Kill}, {"hold", Action::Hold}};
        const auto action = actions.find(body->value("action", "fail"));
        if (action == actions.end()) return Error(Code::Invalid, "'action' is fail, kill or hold");
        (*open)->fault_points().arm(*point, *times, action->second);
        return Json{{"name", *name}, {"times", *times}};
    };
}

}  // namespace refault::daemon
