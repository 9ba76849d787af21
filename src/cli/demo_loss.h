// The demo's second act, on the same pool and the same running processes: pages go bad, and a
// device is torn out. Three of the four files have two copies by then.
#pragma once

#include "base/result.h"
#include "cli/demo_stage.h"

namespace refault::cli {

// Makes the copies, loses the memory, and holds what the clients saw against what the daemon
// reports. Rules that were broken are failures of the report; an error ends the act early.
base::Status play_loss(DemoStage& stage);

}  // namespace refault::cli
