// Scripts for bash and zsh. Both walk the words that were typed as far as they are commands, and
// offer what may follow the last of them.
#include <sstream>

#include "cli/command_tree.h"
#include "cli/reference.h"

namespace refault::cli {

namespace {

// In single quotes of a shell; a colon would end the word that zsh describes.
std::string quoted(const std::string& word, const std::string& description) {
    std::string text = "'" + word + ":";
    for (const char c : description) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return text + "'";
}

// The patterns of a case statement for every command that has commands or is one: " device pull".
std::string known_paths(const CLI::App& app) {
    std::string patterns;
    for (const auto& command : shown_commands(app))
        if (!command.path.empty())
            patterns += (patterns.empty() ? "\" " : " | \" ") + command.path + "\"";
    return patterns;
}

}  // namespace

std::string bash_completion(const CLI::App& app) {
    std::ostringstream out;
    out << R"(# bash completion for refault, made by: refault completion bash
_refault() {
    local current=${COMP_WORDS[COMP_CWORD]} path="" words="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
            )"
        << known_paths(app) << R"() path="$path ${COMP_WORDS[i]}" ;;
        esac
    done
    case "$path" in
)";
    for (const auto& command : shown_commands(app)) {
        out << "        \"" << (command.path.empty() ? "" : " ") << command.path << "\") words=\"";
        bool is_first = true;
        for (const auto& [word, description] : next_words(*command.app)) {
            out << (is_first ? "" : " ") << word;
            is_first = false;
        }
        out << "\" ;;\n";
    }
    out << R"(    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F _refault refault
)";
    return out.str();
}

std::string zsh_completion(const CLI::App& app) {
    std::ostringstream out;
    out << R"(#compdef refault
# zsh completion for refault, made by: refault completion zsh
local where="" i
local -a known
for ((i = 2; i < CURRENT; i++)); do
    case "$where $words[i]" in
        )"
        << known_paths(app) << R"() where="$where $words[i]" ;;
    esac
done
case "$where" in
)";
    for (const auto& command : shown_commands(app)) {
        out << "    \"" << (command.path.empty() ? "" : " ") << command.path << "\")\n"
            << "        known=(\n";
        for (const auto& [word, description] : next_words(*command.app))
            out << "            " << quoted(word, description) << "\n";
        out << "        )\n        ;;\n";
    }
    out << R"(esac
_describe -t commands refault known || _files
)";
    return out.str();
}

}  // namespace refault::cli
