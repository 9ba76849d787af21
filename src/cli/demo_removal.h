// The planned removal of one device, as the acts of the demo show it: asked for, followed, judged
// by its proof and its light. One thread.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/demo_stage.h"

namespace refault::cli {

// Error: the device did not get safe to pull; `removal` says how far it got. The daemon of an
// ordinary user cannot look into other users' processes: there the light has to stay amber, and
// that is no error.
base::Status pull_device(DemoStage& stage, const std::string& device, DemoRemoval& removal);

}  // namespace refault::cli
