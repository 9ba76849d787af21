// refault device add, list, cancel, forget, prove.
#include <cstdio>

#include "base/units.h"
#include "cli/command.h"
#include "cli/pull_text.h"

namespace refault::cli {

namespace {

void show_devices(const Json& answer) {
    std::printf("%-12s %-11s %10s %10s %10s  %-9s %-9s %s\n", "NAME", "STATE", "CAPACITY", "DATA",
                "FREE", "POWER", "ATTENTION", "KIND");
    for (const auto& device : answer["devices"]) {
        std::printf("%-12s %-11s %10s %10s %10s  %-9s %-9s %s\n", device.value("name", "").c_str(),
                    device.value("state", "").c_str(),
                    base::format_size(device.value("capacity_bytes", 0ull)).c_str(),
                    base::format_size(device.value("data_bytes", 0ull)).c_str(),
                    base::format_size(device.value("free_bytes", 0ull)).c_str(),
                    device["slot"].value("power", "").c_str(),
                    device["slot"].value("attention", "").c_str(),
                    device.value("kind", "").c_str());
        const auto removal = device.find("removal");
        if (removal == device.end() || removal->value("has_ended", true)) continue;
        std::printf("  %s  %s\n", progress_line(device.value("name", ""), *removal).c_str(),
                    printable(removal->value("reason", "")).c_str());
    }
}

void show_proof(const Json& report) {
    std::printf("%s\n", report.value("summary", "").c_str());
    for (const auto& holder : report["holders"]) {
        std::printf("  pid %-8d %-16s %s", holder.value("pid", 0),
                    printable(holder.value("command", "")).c_str(),
                    printable(holder.value("path", "")).c_str());
        if (holder.value("kind", "") == "mapping")
            std::printf("  at 0x%llx-0x%llx\n", holder.value("address_begin", 0ull),
                        holder.value("address_end", 0ull));
        else
            std::printf("  descriptor %d\n", holder.value("descriptor", -1));
    }
}

}  // namespace

void add_device_commands(CLI::App& app, Context& context) {
    CLI::App* device = app.add_subcommand("device", "Add, list, pull devices");
    device->require_subcommand(1);
    struct Arguments {
        std::string name;
        std::string spec;
        std::string slot;
        bool may_wipe = false;
    };
    auto arguments = std::make_shared<Arguments>();
    CLI::App* add = add_command(
        *device, context, "add", "Add a device to the pool",
        "  refault device add c=ram:1G\n"
        "  refault device add p2=dir:/mnt/pmem2 --slot sysfs:4\n"
        "  refault device add p1=dir:/mnt/pmem1           one that was lost comes back with its "
        "data\n"
        "  refault device add p1=dir:/mnt/pmem1 --yes     wipe what another pool left on it",
        [&context, arguments] {
            Json body = {{"spec", arguments->spec}};
            if (!arguments->slot.empty()) body["slot"] = arguments->slot;
            if (arguments->may_wipe) body["yes"] = true;
            context.finish(context.client().post("/v1/devices", body), [](const Json& added) {
                std::printf("added %s: %s\n", added.value("name", "").c_str(),
                            base::format_size(added.value("capacity_bytes", 0ull)).c_str());
            });
        });
    add->add_option("spec", arguments->spec, "NAME=ram:SIZE[,node=N] or NAME=dir:PATH[,size=SIZE]")
        ->required();
    add->add_flag("--yes", arguments->may_wipe, "Wipe the device if another pool left data on it");
    add->add_option("--slot", arguments->slot, "Its slot: emulated (the default) or sysfs:NAME");
    add_command(*device, context, "list", "List the devices and their indicators",
                "  refault device list",
                [&context] { context.finish(context.client().get("/v1/devices"), show_devices); });
    CLI::App* cancel = add_command(
        *device, context, "cancel", "Stop a pull; the device goes back in service",
        "  refault device cancel b", [&context, arguments] {
            context.finish(
                context.client().post("/v1/devices/" + url_encode(arguments->name) + "/cancel",
                                      Json::object()),
                [&](const Json&) {
                    std::printf("%s is back in service\n", arguments->name.c_str());
                });
        });
    cancel->add_option("name", arguments->name, "The device")->required();
    CLI::App* forget = add_command(
        *device, context, "forget", "Wait no more for a lost device; what it alone had stays lost",
        "  refault device forget b\n"
        "Its old bytes are of no use after that, also when it comes back",
        [&context, arguments] {
            context.finish(
                context.client().post("/v1/devices/" + url_encode(arguments->name) + "/forget",
                                      Json::object()),
                [&](const Json&) { std::printf("%s is forgotten\n", arguments->name.c_str()); });
        });
    forget->add_option("name", arguments->name, "The device")->required();
    CLI::App* prove = add_command(
        *device, context, "prove", "Read from the kernel's tables who holds the device's memory",
        "  refault device prove b\n"
        "Exit status: 0 nobody holds it, 1 failed, 2 usage, 3 held, or not all could be seen. Only "
        "a pull makes a device safe to pull",
        [&context, arguments] {
            const auto report = context.client().post(
                "/v1/devices/" + url_encode(arguments->name) + "/prove", Json::object());
            context.finish(report, show_proof);
            if (report && !report->value("is_proven", false)) context.status = kNotSafe;
        });
    prove->add_option("name", arguments->name, "The device")->required();
    add_detach_command(*device, context);
    add_pull_commands(*device, context);
}

}  // namespace refault::cli
