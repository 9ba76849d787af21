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
// The pool's losses in figures: what is lost, lacks copies, is retired or not repaired yet.
nlohmann::json losses_json(Pool& pool);
// The file's lost ranges.
nlohmann::json lost_ranges_json(const store::Store& store, base::InodeNo inode);
// Every lost range of the pool, open or not, with what the records know about it.
nlohmann::json lost_json(Pool& pool);

}  // namespace refault::daemon
