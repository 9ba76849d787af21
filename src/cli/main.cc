// refault: the command line. Commands live in *_commands.cc.
#include <signal.h>

#include <cstdlib>

#include "cli/command.h"

int main(int argc, char** argv) {
    using namespace refault::cli;
    Context context;
    CLI::App app(
        "refault: memory that can be pulled. Talks to the daemon, refaultd.\n\n"
        "Examples:\n"
        "  refault demo                                 see a device pulled from under running programs\n"
        "  refault pool create scratch --device a=ram:1G --device b=ram:1G\n"
        "  refault device pull b --dry-run\n"
        "  refault device pull b");
    app.require_subcommand(1);
    app.fallthrough();
    app.set_version_flag("--version", "refault 0.1.0");
    context.run_dir = default_run_dir();
    app.add_option("--run-dir", context.run_dir, "The daemon's run directory (or REFAULT_RUN_DIR)")
        ->envname("REFAULT_RUN_DIR")
        ->capture_default_str();
    ::signal(SIGPIPE, SIG_IGN);
    add_pool_commands(app, context);
    add_device_commands(app, context);
    add_file_commands(app, context);
    add_view_commands(app, context);
    add_demo_commands(app, context);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : kWrongUsage;
    }
    return context.status;
}
