// Views of the layers as JSON, as docs/control-api.md lists them.
#pragma once

#include <nlohmann/json.hpp>

#include "daemon/pool.h"
#include "failure/locator.h"

namespace refault::daemon {

nlohmann::json to_json(const DeviceView& device);
// With its removal, while that is under way or when it has ended with the device outside.
nlohmann::json device_json(Pool& pool, const DeviceView& device);
nlohmann::json to_json(const failure::ProofReport& report);
nlohmann::json to_json(const failure::RemovalStatus& status);
nlohmann::json to_json(const failure::RemovalPlan& plan);
nlohmann::json to_json(const store::Attributes& attributes);
nlohmann::json to_json(const store::Located& located, const store::Store& store);
// All paths of the inode; "(unlinked)" alone when it has none.
nlohmann::json paths_of(const store::Store& store, base::InodeNo inode);
// `clients`: the processes that have a session, ascending.
nlohmann::json to_json(const failure::PageTables& tables, const std::vector<pid_t>& clients);
nlohmann::json to_json(const session::SessionInfo& session);
// With the device ranges under the mapping.
nlohmann::json to_json(const session::MappingInfo& mapping, const store::Store& store);

}  // namespace refault::daemon
