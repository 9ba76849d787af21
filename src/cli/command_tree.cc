// Walking CLI11's tables.
#include "cli/command_tree.h"

namespace refault::cli {

namespace {

void list_commands(const CLI::App& app, const std::string& path, std::vector<ShownCommand>& found) {
    found.push_back({path, &app});
    for (const auto* command : shown_subcommands(app))
        list_commands(*command, (path.empty() ? "" : path + " ") + command->get_name(), found);
}

}  // namespace

std::vector<ShownCommand> shown_commands(const CLI::App& app) {
    std::vector<ShownCommand> found;
    list_commands(app, "", found);
    return found;
}

std::vector<const CLI::App*> shown_subcommands(const CLI::App& app) {
    return app.get_subcommands([](const CLI::App* command) {
        return !command->get_group().empty() && !command->get_name().empty();
    });
}

std::vector<const CLI::Option*> shown_options(const CLI::App& app, bool are_positional) {
    return app.get_options([are_positional](const CLI::Option* option) {
        return !option->get_group().empty() && option->get_positional() == are_positional;
    });
}

std::vector<std::string> option_words(const CLI::Option& option) {
    std::vector<std::string> words;
    for (const auto& name : option.get_snames()) words.push_back("-" + name);
    for (const auto& name : option.get_lnames()) words.push_back("--" + name);
    return words;
}

std::string usage_error(const CLI::App& app, const std::string& reason) {
    std::string path = "refault";
    const CLI::App* at = &app;
    for (auto below = at->get_subcommands(); !below.empty(); below = at->get_subcommands()) {
        at = below.front();
        path += " " + at->get_name();
    }
    const auto see = "; see: " + path + " --help";
    const auto unknown = app.remaining(/*recurse=*/true);
    if (unknown.empty()) return reason + see;
    const auto& word = unknown.front();
    if (shown_subcommands(*at).empty() || word.starts_with('-'))
        return "'" + word + "' is not understood" + see;
    return "there is no command '" + word + "'" + see;
}

std::vector<std::pair<std::string, std::string>> next_words(const CLI::App& app) {
    std::vector<std::pair<std::string, std::string>> words;
    for (const auto* command : shown_subcommands(app))
        words.emplace_back(command->get_name(), command->get_description());
    for (const auto* option : shown_options(app, /*are_positional=*/false))
        for (const auto& word : option_words(*option))
            words.emplace_back(word, option->get_description());
    return words;
}

}  // namespace refault::cli
