// How the three locators grow, each row with its `locator` and `us_per_query`: the reverse map and
// the walk over inodes with the number of inodes, the walk over page tables with the number of
// mapped pages, of processes and of mappings.
#pragma once

#include "bench/harness.h"

namespace refault::bench {

Status measure_by_inodes(Report& report, const Options& options);
Status measure_by_pages(Report& report, const Options& options);

}  // namespace refault::bench
