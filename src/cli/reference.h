// What refault says about itself to other programs: its manual page and the completions of shells,
// made from the command table, so that they name what there is and nothing else. Stateless.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace refault::cli {

// refault(1) in the man macros.
std::string manual_page(const CLI::App& app, const std::string& version);
// Completes commands and options; whatever else is asked for is left to the shell (names of files).
std::string bash_completion(const CLI::App& app);
std::string zsh_completion(const CLI::App& app);

}  // namespace refault::cli
