// The metrics of a pool and of the process, one function a subject. What is counted begins anew
// when the pool is opened. Stateless; any thread.
#pragma once

#include "daemon/metrics_text.h"
#include "daemon/pool.h"

namespace refault::daemon {

// Devices, files, programs, failures and losses, what is under way, mounts, metadata.
void write_pool_metrics(MetricsText& out, Pool& pool);
// Memory, descriptors, threads, processor time of this process. What cannot be had is left out.
void write_process_metrics(MetricsText& out);

}  // namespace refault::daemon
