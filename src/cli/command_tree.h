// The command table as it is shown to users: without what is hidden from --help. Stateless.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

namespace refault::cli {

struct ShownCommand {
    std::string path;  // "device pull"; empty for refault itself
    const CLI::App* app = nullptr;
};
// refault itself, then each command before its own commands, in the order of --help.
std::vector<ShownCommand> shown_commands(const CLI::App& app);

std::vector<const CLI::App*> shown_subcommands(const CLI::App& app);
std::vector<const CLI::Option*> shown_options(const CLI::App& app, bool are_positional);
// "--rate", "-o" and so on: every way to write an option.
std::vector<std::string> option_words(const CLI::Option& option);

// One line on words that were not understood, for whom `reason` of CLI11 is not enough: the word,
// and whose --help knows better.
std::string usage_error(const CLI::App& app, const std::string& reason);

// The words that may follow a command: its commands and its options, each with what it does.
std::vector<std::pair<std::string, std::string>> next_words(const CLI::App& app);

}  // namespace refault::cli
