// What is mounted, in a file of the run directory (`mount.json`): a daemon that dies cannot take
// its mount away, and the next one puts another in its place. Stateless; the file is written by one
// daemon at a time, which holds the directory.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/uuid.h"
#include "mount/options.h"

namespace refault::daemon {

nlohmann::json to_json(const mount::MountOptions& options);
// Corrupt when a field is missing or of another type.
base::Result<mount::MountOptions> mount_options_from(const nlohmann::json& json);

// Null: nothing is mounted. An empty directory keeps no record.
base::Status save_mount_record(const std::string& run_dir, const base::Uuid& pool,
                               const mount::MountOptions* options);
// Nothing when there is none, or one of another pool.
base::Result<std::optional<mount::MountOptions>> load_mount_record(const std::string& run_dir,
                                                                   const base::Uuid& pool);

}  // namespace refault::daemon
