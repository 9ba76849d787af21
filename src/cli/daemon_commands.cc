// refault daemon: the daemon itself.
#include <poll.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "base/unique_fd.h"
#include "cli/command.h"
#include "sys/process.h"

namespace refault::cli {

namespace {

using base::Code;
using base::Error;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::milliseconds kLookAgain{20};

struct UpgradeArguments {
    std::string program;
    bool is_dry_run = false;
};

// The process stays the same: when it ends, the new program has. Not by TCP, where its number may
// be another process's here.
base::UniqueFd process_of_daemon(const Context& context) {
    const auto status = context.client().get("/v1/status");
    if (!status || !context.connect.empty()) return {};
    auto process = sys::open_pidfd(status->value("pid", 0));
    return process ? std::move(*process) : base::UniqueFd();
}

bool has_ended(const base::UniqueFd& process) {
    pollfd end{process.get(), POLLIN, 0};
    return process && ::poll(&end, 1, 0) > 0;
}

// The new daemon says that it is one more; the old one, why it stays.
base::Result<Json> wait_for_successor(const Context& context, const base::UniqueFd& process,
                                      std::uint64_t count_before) {
    const auto begin = steady_clock::now();
    for (bool has_said = false; steady_clock::now() < begin + kPatience;
         std::this_thread::sleep_for(kLookAgain)) {
        if (!has_said && !context.json && steady_clock::now() > begin + std::chrono::seconds(1)) {
            std::fputs("waiting for the new daemon ...\n", stderr);
            has_said = true;
        }
        if (has_ended(process))
            return Error(Code::Gone,
                         "the new program has ended, its log says why. Programs wait for a daemon, "
                         "30 s if they ask for no more: start one now, with the same --run-dir and "
                         "devices");
        const auto status = context.client().get("/v1/status");
        if (!status || !status->contains("upgrades")) continue;
        const auto& upgrades = (*status)["upgrades"];
        if (upgrades.value("count", std::uint64_t{0}) > count_before) return *status;
        if (const auto error = upgrades.value("error", std::string()); !error.empty())
            return Error(Code::Busy, "the daemon was not replaced: " + error);
    }
    return Error(Code::TimedOut,
                 "no daemon answers after 60 s; its log says why. End it, and start one with the "
                 "same --run-dir and devices");
}

void show_plan(const Json& plan) {
    std::printf("would replace refaultd %s by %s %s: %llu sessions and %zu mounts go on\n",
                plan.value("from_version", "").c_str(), plan.value("program", "").c_str(),
                plan.value("version", "").c_str(), plan.value("sessions", 0ull),
                plan["mounts"].size());
}

void upgrade(Context& context, const UpgradeArguments& arguments) {
    Json body{{"dry_run", arguments.is_dry_run}};
    if (!arguments.program.empty()) body["program"] = absolute_path(arguments.program);
    const auto process = process_of_daemon(context);
    const auto asked = context.client().post("/v1/upgrade", body);
    if (!asked || arguments.is_dry_run) return context.finish(asked, show_plan);
    const auto status =
        wait_for_successor(context, process, asked->value("upgrades", std::uint64_t{0}));
    if (!status) return context.fail(status.error());
    const Json answer{{"program", asked->value("program", "")},
                      {"version", status->value("version", "")},
                      {"pid", status->value("pid", 0)},
                      {"pool", (*status)["pool"]},
                      {"mounts", status->value("mounts", Json::array())}};
    context.finish(answer, [](const Json& done) {
        std::printf("refaultd %s runs now, pid %d\n", done.value("version", "").c_str(),
                    done.value("pid", 0));
    });
}

}  // namespace

void add_daemon_commands(CLI::App& app, Context& context) {
    auto* daemon = app.add_subcommand("daemon", "The daemon itself");
    daemon->require_subcommand(1);
    const auto arguments = std::make_shared<UpgradeArguments>();
    auto* command = add_command(
        *daemon, context, "upgrade",
        "Replace the running daemon by another program, or its own file anew; clients, mounts and "
        "ram: devices stay",
        "  refault daemon upgrade --dry-run\n"
        "  refault daemon upgrade                          the file it was started from\n"
        "  refault daemon upgrade --program /opt/refault/bin/refaultd",
        [&context, arguments] { upgrade(context, *arguments); });
    command->add_option("--program", arguments->program, "The refaultd to go on with");
    command->add_flag("--dry-run", arguments->is_dry_run,
                      "Ask whether it can take over; change nothing");
}

}  // namespace refault::cli
