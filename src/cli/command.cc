// Shared parts of commands.
#include "cli/command.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

namespace refault::cli {

std::string printable(std::string_view text) {
    std::string shown;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7f) {
            shown += c;
            continue;
        }
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
        shown += escaped;
    }
    return shown;
}

std::string absolute_path(const std::string& path) {
    const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                           &std::free);
    std::error_code failure;
    return real ? real.get() : std::filesystem::absolute(path, failure).string();
}

std::string all_paths(const Json& answer) {
    std::string first = answer.value("path", "");
    std::string others;
    if (const auto paths = answer.find("paths"); paths != answer.end())
        for (const auto& path : *paths) {
            const auto text = path.get<std::string>();
            if (first.empty())
                first = text;
            else if (text != first)
                others += (others.empty() ? "" : ", ") + printable(text);
        }
    return printable(first) + (others.empty() ? "" : " (also " + others + ")");
}

std::string default_run_dir() {
    if (::geteuid() == 0) return "/run/refault";
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    if (runtime != nullptr && runtime[0] == '/') return std::string(runtime) + "/refault";
    return "/tmp/refault-" + std::to_string(::geteuid());
}

void Context::fail(const base::Error& error, int exit_status) {
    status = exit_status;
    if (json) {
        const Json body = {{"error",
                            {{"code", std::string(base::code_name(error.code()))},
                             {"errno", error.sys_errno()},
                             {"message", error.message()}}}};
        // One line, so that it can also end a stream of lines.
        std::printf("%s\n", body.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
    }
    std::fprintf(stderr, "refault: %s\n", printable(error.message()).c_str());
}

void Context::finish(const base::Result<Json>& answer,
                     const std::function<void(const Json&)>& show) {
    if (!answer) return fail(answer.error());
    if (json)
        std::printf("%s\n", answer->dump(2, ' ', false, Json::error_handler_t::replace).c_str());
    else
        show(*answer);
}

CLI::App* add_command(CLI::App& parent, Context& context, const std::string& name,
                      const std::string& description, const std::string& examples,
                      std::function<void()> action) {
    CLI::App* command = parent.add_subcommand(name, description);
    command->add_flag("--json", context.json, "Answer in JSON");
    command->footer("Examples:\n" + examples);
    command->callback(std::move(action));
    return command;
}

}  // namespace refault::cli
