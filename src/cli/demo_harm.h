// What the acts of the demo do to memory: a page goes bad, a device is torn out; and the wait until
// every file has its copies again. One thread.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/demo_places.h"
#include "cli/demo_stage.h"

namespace refault::cli {

// One page of a device goes bad. What becomes of it must be `outcome`, and of nothing else; else
// the report fails.
base::Status poison_page(DemoStage& stage, const DemoPage& page, const std::string& outcome);

// Every file of the device goes, until the pool has noticed. `cost` says for the timeline what goes
// with them.
base::Status tear_out(DemoStage& stage, const std::string& device, const std::string& cost);

// Until no copy is missing and none is being made.
base::Status wait_for_resync(DemoStage& stage);

}  // namespace refault::cli
