// refault mount, umount, mounts.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "cli/command.h"
#include "cli/loss_text.h"
#include "sys/mount.h"

namespace refault::cli {

namespace {

struct MountArguments {
    std::vector<std::string> places;  // [POOL] MOUNTPOINT
    std::string options;
    bool is_forced = false;
};

void mount(Context& context, const MountArguments& arguments) {
    Json body{{"directory", absolute_path(arguments.places.back())}};
    if (arguments.places.size() > 1) body["pool"] = arguments.places.front();
    if (!arguments.options.empty()) body["options"] = arguments.options;
    auto mounted = context.client().post("/v1/mounts", body);
    // The daemon mounts in the mount namespace that it lives in.
    if (mounted && !sys::is_mount_point(body.value("directory", ""))) {
        const auto undone = context.client().post(
            "/v1/unmount", {{"directory", body.value("directory", "")}, {"force", true}});
        mounted =
            base::Error(base::Code::NotSupported,
                        std::string("the daemon lives in another mount namespace, and what it "
                                    "mounts is not seen here; ") +
                            (undone ? "nothing is mounted" : "it is mounted there still") +
                            ". Mount from where the daemon runs, or run a daemon here");
    }
    context.finish(std::move(mounted), [](const Json& answer) {
        std::printf("%s mounted at %s\n", printable(answer.value("pool", "")).c_str(),
                    printable(answer.value("directory", "")).c_str());
    });
}

// A mount whose daemon is gone cannot be asked for its path any more: the word is taken as it is.
void umount(Context& context, const MountArguments& arguments) {
    const auto directory = absolute_path(arguments.places.front());
    context.finish(context.client().post(
                       "/v1/unmount", {{"directory", directory}, {"force", arguments.is_forced}}),
                   [](const Json&) {});
}

void show_mounts(const Json& answer) {
    for (const auto& one : answer["mounts"])
        std::printf("%s on %s (%s), %s\n", printable(one.value("pool", "")).c_str(),
                    printable(one.value("directory", "")).c_str(),
                    printable(one.value("options", "")).c_str(),
                    count_of(one.value("open_files", 0ull), "open file").c_str());
    if (answer["mounts"].empty()) std::printf("the pool is mounted nowhere\n");
}

}  // namespace

void add_mount_commands(CLI::App& app, Context& context) {
    const auto arguments = std::make_shared<MountArguments>();
    auto* mount_command = add_command(
        app, context, "mount",
        "Show the pool as a filesystem, for programs that do not link the library",
        "  refault mount /mnt\n"
        "  refault mount scratch /mnt -o ro,nosuid\n"
        "  refault mount /mnt -o writeback        writes gather in the kernel's cache\n"
        "Options: ro, allow_other (root: unless no_allow_other), writeback, patience_ms=N (how "
        "long "
        "a request\nwaits for a range that is locked, 10000), nosuid, nodev, noexec and the like. "
        "See docs/mount.md.",
        [&context, arguments] { mount(context, *arguments); });
    mount_command->add_option("PLACES", arguments->places, "[POOL] MOUNTPOINT")
        ->required()
        ->expected(1, 2);
    mount_command->add_option("-o,--options", arguments->options, "Options, separated by commas");
    auto* umount_command = add_command(
        app, context, "umount", "Take the mount away",
        "  refault umount /mnt\n"
        "  refault umount /mnt --force            what programs have open there fails from now on",
        [&context, arguments] { umount(context, *arguments); });
    umount_command->add_option("MOUNTPOINT", arguments->places, "Where it is mounted")
        ->required()
        ->expected(1);
    umount_command->add_flag("--force", arguments->is_forced, "Also while it is in use");
    add_command(app, context, "mounts", "List where the pool is mounted", "  refault mounts --json",
                [&context] { context.finish(context.client().get("/v1/mounts"), show_mounts); });
}

}  // namespace refault::cli
