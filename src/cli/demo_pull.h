// The demo's first act: one device is pulled from under the running clients, and proven to be free.
#pragma once

#include "base/result.h"
#include "cli/demo_stage.h"

namespace refault::cli {

// Pulls, lets the clients go on and verify, and adds what was seen to the report.
base::Status play_pull(DemoStage& stage);

}  // namespace refault::cli
