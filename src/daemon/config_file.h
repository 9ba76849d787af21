// The daemon's configuration file: TOML whose keys are the long options without their dashes, so
// that there is one list of them. What the command line says comes before it. Used by main alone,
// before there are threads.
#pragma once

#include <CLI/CLI.hpp>

namespace refault::daemon {

// Adds --config FILE to the options that `app` has by then. A key that is no option, a value of the
// wrong kind and text that is not TOML end the parsing with FILE:LINE and what is wrong there.
void add_config_file(CLI::App& app);

}  // namespace refault::daemon
