// The hidden commands that print the manual page and the completions; the build calls them.
#include <cstdio>
#include <memory>

#include "base/version.h"
#include "cli/command.h"
#include "cli/reference.h"

namespace refault::cli {

void add_reference_commands(CLI::App& app) {
    constexpr const char* kHidden = "";
    auto* manual = app.add_subcommand("man", "Print the manual page")->group(kHidden);
    manual->callback([&app] { std::fputs(manual_page(app, base::kVersion).c_str(), stdout); });
    auto* completion =
        app.add_subcommand("completion", "Print the completions of a shell")->group(kHidden);
    auto shell = std::make_shared<std::string>();
    completion->add_option("SHELL", *shell, "bash or zsh")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh"}));
    completion->callback([&app, shell] {
        const auto script = *shell == "bash" ? bash_completion(app) : zsh_completion(app);
        std::fputs(script.c_str(), stdout);
    });
}

}  // namespace refault::cli
