// What failed and what is lost, as JSON (docs/control-api.md).
#pragma once

#include <nlohmann/json.hpp>

#include "daemon/pool.h"

namespace refault::daemon {

nlohmann::json to_json(const failure::FailureRecord& record);
nlohmann::json to_json(const failure::Windows& windows);
nlohmann::json to_json(const failure::ResyncStatus& status);
nlohmann::json to_json(const failure::ScrubStatus& status);
nlohmann::json to_json(const failure::DetachPlan& plan);
nlohmann::json to_json(const failure::DetachStatus& status);
// Every lost range of the pool, open or not, with what the records know about it.
nlohmann::json lost_json(Pool& pool);

}  // namespace refault::daemon
