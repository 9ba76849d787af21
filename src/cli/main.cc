// refault: the command line. Commands live in *_commands.cc.
#include <signal.h>

#include <cstdio>
#include <cstdlib>

#include "base/version.h"
#include "cli/command.h"
#include "cli/command_tree.h"

namespace {

int wrong_usage(const CLI::App& app, const CLI::ParseError& error) {
    std::fprintf(stderr, "refault: %s\n",
                 refault::cli::printable(refault::cli::usage_error(app, error.what())).c_str());
    return refault::cli::kWrongUsage;
}

}  // namespace

int main(int argc, char** argv) {
    using namespace refault::cli;
    const std::string version = std::string("refault ") + refault::base::kVersion;
    Context context;
    CLI::App app(
        "refault: memory that can be pulled. Talks to the daemon, refaultd.\n\n"
        "Examples:\n"
        "  refault demo                                 see a device pulled from under running "
        "programs\n"
        "  refault pool create scratch --device a=ram:1G --device b=ram:1G\n"
        "  refault device pull b --dry-run\n"
        "  refault device pull b");
    app.require_subcommand(1);
    app.fallthrough();
    app.set_version_flag("--version", version);
    context.run_dir = default_run_dir();
    app.add_option("--run-dir", context.run_dir, "The daemon's run directory (or REFAULT_RUN_DIR)")
        ->envname("REFAULT_RUN_DIR")
        ->capture_default_str();
    app.add_option("--socket", context.socket,
                   "The daemon's control socket, when it is not RUN_DIR/control.sock");
    auto* connect =
        app.add_option("--connect", context.connect,
                       "The daemon's control API by TCP, ADDRESS:PORT (refaultd --listen-tcp)")
            ->envname("REFAULT_CONNECT");
    auto* token_file =
        app.add_option("--token-file", context.token_file, "With --connect: where the token is")
            ->envname("REFAULT_TOKEN_FILE");
    // A variable may be set for whenever it is needed.
    if (std::getenv("REFAULT_TOKEN_FILE") == nullptr) token_file->needs(connect);
    app.add_flag("--json", context.json, "Answer in JSON; the same behind the command");
    ::signal(SIGPIPE, SIG_IGN);
    add_pool_commands(app, context);
    add_device_commands(app, context);
    add_daemon_commands(app, context);
    add_file_commands(app, context);
    add_loss_commands(app, context);
    add_mount_commands(app, context);
    add_view_commands(app, context);
    add_doctor_command(app, context);
    add_demo_commands(app, context);
    add_reference_commands(app);
    add_command(app, context, "version", "Show the version of this program", "  refault version",
                [&context, &version] {
                    context.finish(Json{{"version", version}},
                                   [&](const Json&) { std::puts(version.c_str()); });
                });
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp& error) {
        // The help of something else is no answer to a word that is not known.
        if (app.remaining(/*recurse=*/true).empty()) return app.exit(error);
        return wrong_usage(app, error);
    } catch (const CLI::ParseError& error) {
        return error.get_exit_code() == 0 ? app.exit(error) : wrong_usage(app, error);
    }
    // A full disk or a closed pipe behind standard output is a failure as well.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        std::fputs("refault: cannot write to standard output\n", stderr);
        return kFailed;
    }
    return context.status;
}
