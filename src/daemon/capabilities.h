// The capabilities that root's daemon keeps; docs/security.md says what each is for. Called by main
// before there are other threads, because the kernel keeps capabilities for each thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace refault::daemon {

// Drops all but what the daemon needs, also from what it could get by exec where it may do that. An
// ordinary user has none, and nothing happens.
base::Status drop_capabilities();

// The set of what is kept, bit CAP_x.
std::uint64_t needed_capabilities() noexcept;

// "sys_admin" and so on, in the order of the kernel.
std::vector<std::string> capability_names(std::uint64_t set);

}  // namespace refault::daemon
