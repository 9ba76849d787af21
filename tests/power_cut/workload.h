// The lives of pools that pass every row of the table of durable writes. One thread.
#pragma once

#include "tests/power_cut/recording.h"

namespace refault::power_cut {

// Files and their bytes: names, sizes, holes, copies, memory that fails.
void record_files(Recording& recording);
// Devices that join, are emptied, are lost, come back, and leave with their files.
void record_devices(Recording& recording);
// The log: segments, checkpoints, appends that fail, a pool that is full.
void record_log(Recording& recording);

}  // namespace refault::power_cut
