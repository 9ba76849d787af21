// refault device detach: devices leave with their data; refault pool import brings them up
// elsewhere.
#include <unistd.h>

#include <cstdio>

#include "base/units.h"
#include "cli/command.h"
#include "cli/loss_text.h"
#include "cli/pull_text.h"

namespace refault::cli {

namespace {

constexpr unsigned kPollUs = 100'000;

struct DetachArguments {
    std::vector<std::string> devices;
    std::string pool;
    std::string kill_after;
    std::string timeout;
    bool dry_run = false;
    bool is_cancel = false;
};

base::Result<Json> request_of(const DetachArguments& arguments) {
    Json body = {{"devices", arguments.devices}, {"dry_run", arguments.dry_run}};
    if (!arguments.pool.empty()) body["pool"] = arguments.pool;
    for (const auto& [text, field] : {std::pair(arguments.kill_after, "kill_after_ms"),
                                      std::pair(arguments.timeout, "timeout_ms")}) {
        if (text.empty()) continue;
        auto ms = parse_duration_ms(text);
        if (!ms) return ms.error();
        body[field] = *ms;
    }
    return body;
}

void show_plan(const Json& plan) {
    std::printf("to leave    %s, %s\n", count_of(plan.value("files", 0ull), "file").c_str(),
                base::format_size(plan.value("bytes", 0ull)).c_str());
    for (const auto& path : plan["incomplete"])
        std::printf("in part     %s has bytes on other devices, too\n",
                    printable(path.get<std::string>()).c_str());
    for (const auto& process : plan["processes"])
        std::printf("asked       pid %d (%s)\n", process.value("pid", 0),
                    printable(process.value("command", "")).c_str());
    if (plan.value("is_possible", false))
        std::printf("possible    yes; nothing was changed\n");
    else
        std::printf("possible    no: %s\n", printable(plan.value("reason", "")).c_str());
}

// With the paths that the devices have here; another host may have mounted them elsewhere.
void show_way_back(Context& context, const Json& devices) {
    std::string names, specs;
    for (const auto& device : devices) {
        const auto name = device.get<std::string>();
        names += " " + name;
        const auto known = context.client().get("/v1/devices/" + url_encode(name));
        specs += " dir:" + (known ? known->value("directory", "PATH") : std::string("PATH"));
    }
    std::printf(
        "safe to pull, with its data:%s (power indicator off)\n"
        "bring it up on another host, or here after `refault pool close`, with: refault pool "
        "import%s\n",
        names.c_str(), specs.c_str());
}

void detach(Context& context, const DetachArguments& arguments) {
    auto body = request_of(arguments);
    if (!body) return context.fail(body.error(), kWrongUsage);
    auto answer = context.client().post("/v1/detach", *body);
    if (!answer || arguments.dry_run) return context.finish(answer, show_plan);
    std::string last_phase;
    for (;;) {
        auto status = context.client().get("/v1/detach");
        if (!status) return context.fail(status.error());
        const auto phase = status->value("phase", "");
        if (phase != last_phase && !context.json) std::printf("%s\n", phase.c_str());
        last_phase = phase;
        (void)std::fflush(stdout);
        if (status->value("is_running", false)) {
            ::usleep(kPollUs);
            continue;
        }
        if (phase != "detached")
            return context.fail(
                base::Error(base::Code::Busy, "not detached: " + status->value("reason", "")));
        return context.finish(status,
                              [&](const Json& done) { show_way_back(context, done["devices"]); });
    }
}

}  // namespace

void add_detach_command(CLI::App& device, Context& context) {
    auto arguments = std::make_shared<DetachArguments>();
    CLI::App* command = add_command(
        device, context, "detach", "Take devices away with the data on them, for another host",
        "  refault device detach p1 --dry-run\n"
        "  refault device detach p1 --kill-after 30s    programs get SIGTERM, after 30 s SIGKILL\n"
        "  refault device detach --cancel",
        [&context, arguments] {
            if (arguments->is_cancel)
                return context.finish(context.client().post("/v1/detach/cancel", Json::object()),
                                      [](const Json&) { std::printf("cancelled\n"); });
            if (arguments->devices.empty())
                return context.fail(base::Error(base::Code::Invalid, "name the devices"),
                                    kWrongUsage);
            detach(context, *arguments);
        });
    command->add_option("devices", arguments->devices, "Devices that hold whole files: dir: only");
    command->add_option("--pool", arguments->pool, "Name of the pool that they become");
    command->add_option("--kill-after", arguments->kill_after,
                        "Kill who still has a file open after this time (never, unless told)");
    command->add_option("--timeout", arguments->timeout,
                        "Give up, and put the devices back in service, after this time (60s)");
    command->add_flag("--dry-run", arguments->dry_run,
                      "Only say what would leave and who is asked");
    command->add_flag("--cancel", arguments->is_cancel, "Stop the one that is under way");
}

}  // namespace refault::cli
