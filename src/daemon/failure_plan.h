// What a failure would do, told without doing it: the same questions as the recovery asks
// (failure/recovery.h), answered from the books. Stateless; what changes meanwhile may change the
// outcome.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "daemon/pool.h"

namespace refault::daemon {

// Range of a device as an operator names it, and whether all of it is meant.
struct FailingRange {
    base::DeviceId device;
    base::DeviceRange range;
    bool is_whole = false;
};

// As a record (docs/control-api.md), with the outcomes that its parts would have.
nlohmann::json failure_plan(Pool& pool, const std::string& name, const FailingRange& failing,
                            failure::FailureKind kind);

}  // namespace refault::daemon
