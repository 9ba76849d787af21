// refault pool ...
#include <algorithm>
#include <cstdio>
#include <map>
#include <string_view>

#include "base/units.h"
#include "cli/command.h"
#include "cli/loss_text.h"

namespace refault::cli {

namespace {

void show_losses(const Json& losses) {
    const auto number = [&](const char* name) { return losses.value(name, 0ull); };
    const auto size = [&](const char* name) { return base::format_size(number(name)); };
    if (number("lost_bytes") > 0)
        std::printf("lost      %s in %s; see: refault lost\n", size("lost_bytes").c_str(),
                    count_of(number("lost_files"), "file").c_str());
    for (const auto& name : losses["lost_devices"])
        std::printf(
            "lost      device %s is lost; it comes back by: refault device add %s=dir:PATH\n",
            name.get<std::string>().c_str(), name.get<std::string>().c_str());
    if (number("missing_copy_bytes") > 0)
        std::printf("copies    %s of copies missing, in %s; see: refault resync\n",
                    size("missing_copy_bytes").c_str(),
                    count_of(number("files_missing_copies"), "file").c_str());
    if (number("unsynced_files") > 0)
        std::printf("copies    of %s may differ\n",
                    count_of(number("unsynced_files"), "file").c_str());
    if (number("retired_bytes") > 0)
        std::printf("retired   %s of memory; see: refault failures\n",
                    size("retired_bytes").c_str());
    if (number("failures_not_repaired") > 0)
        std::printf("failures  %s not repaired; see: refault failures\n",
                    count_of(number("failures_not_repaired"), "failure").c_str());
}

// What the lines of show_losses() do not say.
void show_health(const Json& health) {
    constexpr std::string_view kSaidElsewhere[] = {"device-lost", "ranges-lost", "copies-unplaced",
                                                   "pages-retired"};
    std::printf("health    %s\n", health.value("status", "").c_str());
    for (const auto& reason : health.value("reasons", Json::array()))
        if (std::find(std::begin(kSaidElsewhere), std::end(kSaidElsewhere),
                      reason.value("code", "")) == std::end(kSaidElsewhere))
            std::printf("          %s\n", printable(reason.value("message", "")).c_str());
}

// One line a device: a lost one has its own already, and a removal under way belongs to its device.
void show_devices(const Json& status) {
    const auto& lost = status["losses"]["lost_devices"];
    std::map<std::string, std::string> phases;
    for (const auto& removal : status["removals"])
        phases[removal.value("device", "")] = removal.value("phase", "");
    for (const auto& device : status["devices"]) {
        const auto name = device.value("name", "");
        const auto state = device.value("state", "");
        if (state == "lost" && std::find(lost.begin(), lost.end(), name) != lost.end()) continue;
        const auto phase = phases.extract(name);
        std::printf("device    %-12s %-10s power %s%s\n", name.c_str(), state.c_str(),
                    device["slot"].value("power", "").c_str(),
                    phase.empty() ? "" : (", " + phase.mapped()).c_str());
    }
    for (const auto& [name, phase] : phases)
        std::printf("leaving   %-12s %s\n", name.c_str(), phase.c_str());
}

void show_status(const Json& status) {
    if (!status["kernel"].value("userfaultfd", true))
        std::printf("kernel    no program can map files: %s\n",
                    status["kernel"].value("reason", "").c_str());
    if (status["pool"].is_null()) {
        std::printf("%s\n", status.value("state", "") == "opening" ? "a pool is being opened"
                                                                   : "no pool is open");
        return;
    }
    std::printf("pool      %s (%s)\n", status.value("pool", "").c_str(),
                status.value("uuid", "").c_str());
    std::printf("capacity  %s, data %s, free %s\n",
                base::format_size(status.value("capacity_bytes", 0ull)).c_str(),
                base::format_size(status.value("data_bytes", 0ull)).c_str(),
                base::format_size(status.value("free_bytes", 0ull)).c_str());
    std::printf("sessions  %d of at most %d\n", status.value("sessions", 0),
                status.value("limits", Json::object()).value("sessions_max", 0));
    for (const auto& refused : status.value("refused", Json::array()))
        std::printf("refused   %llu on the %s channel: %s\n", refused.value("count", 0ull),
                    refused.value("channel", "").c_str(), refused.value("reason", "").c_str());
    for (const auto& mount : status.value("mounts", Json::array()))
        std::printf("mounted   %s, %s\n", printable(mount.value("directory", "")).c_str(),
                    count_of(mount.value("open_files", 0ull), "open file").c_str());
    const auto& metadata = status["metadata"];
    std::printf("metadata  epoch %llu, %s, checkpoint %s, log %s\n", metadata.value("epoch", 0ull),
                count_of(metadata.value("copies", 0ull), "copy").c_str(),
                base::format_size(metadata.value("checkpoint_bytes", 0ull)).c_str(),
                base::format_size(metadata.value("log_bytes", 0ull)).c_str());
    if (status.contains("health")) show_health(status["health"]);
    show_losses(status["losses"]);
    show_devices(status);
}

void show_check(const Json& answer, Context& context) {
    const auto& problems = answer["problems"];
    for (const auto& problem : problems) std::printf("%s\n", problem.get<std::string>().c_str());
    if (problems.empty())
        std::printf("the pool's metadata is sound\n");
    else
        context.status = kFailed;
}

}  // namespace

void add_pool_commands(CLI::App& app, Context& context) {
    CLI::App* pool = app.add_subcommand("pool", "Make, open, close, look at a pool");
    pool->require_subcommand(1);

    struct Arguments {
        std::string name;
        std::vector<std::string> devices;
        bool is_degraded = false;
    };
    auto arguments = std::make_shared<Arguments>();
    CLI::App* create = add_command(
        *pool, context, "create", "Make a new pool of devices",
        "  refault pool create scratch --device a=ram:1G --device b=ram:1G\n"
        "  refault pool create store --device p0=dir:/mnt/pmem0 --device p1=dir:/mnt/pmem1",
        [&context, arguments] {
            context.finish(
                context.client().post("/v1/pool/create",
                                      {{"name", arguments->name}, {"devices", arguments->devices}}),
                show_status);
        });
    create->add_option("name", arguments->name, "The pool's name")->required();
    create
        ->add_option("--device", arguments->devices,
                     "NAME=ram:SIZE[,node=N] or NAME=dir:PATH[,size=SIZE]")
        ->required();
    CLI::App* open = add_command(
        *pool, context, "open", "Open a pool that was closed",
        "  refault pool open dir:/mnt/pmem0 dir:/mnt/pmem1\n"
        "  refault pool open dir:/mnt/pmem0 --degraded     the other device is lost",
        [&context, arguments] {
            context.finish(
                context.client().post("/v1/pool/open", {{"devices", arguments->devices},
                                                        {"degraded", arguments->is_degraded}}),
                show_status);
        });
    open->add_flag("--degraded", arguments->is_degraded,
                   "Go on without the devices that are missing");
    open->add_option("devices", arguments->devices, "The pool's devices: dir:PATH")->required();
    CLI::App* import = add_command(
        *pool, context, "import", "Bring up devices that were detached, or another host's pool",
        "  refault pool import dir:/mnt/pmem1", [&context, arguments] {
            context.finish(
                context.client().post("/v1/pool/open", {{"devices", arguments->devices},
                                                        {"degraded", arguments->is_degraded}}),
                show_status);
        });
    import->add_flag("--degraded", arguments->is_degraded,
                     "Go on without the devices that are missing");
    import->add_option("devices", arguments->devices, "The pool's devices: dir:PATH")->required();
    add_command(*pool, context, "close",
                "Close the pool; programs keep what they have mapped, ram: devices end",
                "  refault pool close", [&context] {
                    context.finish(context.client().post("/v1/pool/close", Json::object()),
                                   [](const Json&) { std::printf("closed\n"); });
                });
    const auto status = [&context] {
        context.finish(context.client().get("/v1/status"), show_status);
    };
    add_command(*pool, context, "status", "Show the pool", "  refault pool status --json", status);
    // What one types first; the same.
    add_command(app, context, "status", "Show the pool, its health and its devices",
                "  refault status", status);
    add_scrub_command(*pool, context);
    add_command(*pool, context, "check", "Check the pool's metadata for contradictions",
                "  refault pool check", [&context] {
                    auto answer = context.client().post("/v1/pool/check", Json::object());
                    context.finish(answer, [&](const Json& json) { show_check(json, context); });
                    if (answer && !(*answer)["problems"].empty()) context.status = kFailed;
                });
}

}  // namespace refault::cli
