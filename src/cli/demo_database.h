// The demo's third act: the packaged sqlite3, which knows nothing of the pool, has a database with
// two copies on its mount and commits rows without a pause, while a device is pulled, a page goes
// bad and another device is torn out.
#pragma once

#include "base/result.h"
#include "cli/demo_stage.h"

namespace refault::cli {

// After the clients have ended. Without sqlite3 or a way to mount, the act is left out, and the
// report says why. Rules that were broken are failures of the report; an error ends the act early.
base::Status play_database(DemoStage& stage);

}  // namespace refault::cli
