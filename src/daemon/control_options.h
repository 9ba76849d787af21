// The daemon's options of limits and rights: one table of names, values, ranges and words of help,
// from which the command line, the status and the manual take them. Used by main before any thread.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"
#include "daemon/control_listener.h"
#include "daemon/control_rights.h"
#include "session/limits.h"

namespace refault::daemon {

struct RightsOptions {
    std::string changing_group;
    std::string tcp_address;
    std::string token_file;
    std::string look_token_file;
};

void add_limit_options(CLI::App& app, session::Limits& session, ControlLimits& control);
void add_rights_options(CLI::App& app, RightsOptions& options);
// Reads what the options name. Refuses TCP without a token.
base::Result<ControlRights> take_rights(const RightsOptions& options);
// With no more sessions than the process may have descriptors for, which is logged.
session::Limits limits_in_force(const session::Limits& session);
nlohmann::json to_json(const session::Limits& session, const ControlLimits& control);

}  // namespace refault::daemon
