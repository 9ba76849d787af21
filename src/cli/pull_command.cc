// refault device pull: plan, start, follow, tell how it ended.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/units.h"
#include "cli/command.h"
#include "cli/pull_text.h"

namespace refault::cli {

using base::Code;
using base::Error;

namespace {

constexpr int kWaitMs = 250;

volatile sig_atomic_t g_is_interrupted = 0;
void on_interrupt(int) {
    g_is_interrupted = 1;
}

struct PullArguments {
    std::vector<std::string> devices;
    bool dry_run = false;
    bool no_wait = false;
    bool accept_pinned = false;
    std::string rate;
    std::string timeout;
};

base::Result<Json> request_of(const PullArguments& arguments) {
    Json body = {{"devices", arguments.devices}, {"dry_run", arguments.dry_run}};
    if (arguments.accept_pinned) body["accept_pinned"] = true;
    if (!arguments.rate.empty()) {
        auto bytes = parse_rate(arguments.rate);
        if (!bytes) return bytes.error();
        body["rate_bytes_per_s"] = *bytes;
    }
    if (!arguments.timeout.empty()) {
        auto ms = parse_duration_ms(arguments.timeout);
        if (!ms) return ms.error();
        body["timeout_ms"] = *ms;
    }
    return body;
}

void show_plan(const Json& plan) {
    std::printf("to move     %s in %llu extents%s\n",
                base::format_size(plan.value("bytes_to_move", 0ull)).c_str(),
                plan.value("extents_to_move", 0ull),
                plan.value("moves_metadata", false) ? ", and metadata" : "");
    std::printf("room        %s on the devices that stay\n",
                base::format_size(plan.value("free_bytes_elsewhere", 0ull)).c_str());
    for (const auto& process : plan["processes"])
        std::printf("affected    pid %d (%s) maps %s of it\n", process.value("pid", 0),
                    process.value("command", "").c_str(),
                    base::format_size(process.value("mapped_bytes", 0ull)).c_str());
    if (plan.value("is_possible", false))
        std::printf("possible    yes; nothing was changed\n");
    else
        std::printf("possible    no: %s\n", plan.value("reason", "").c_str());
}

// Follows one device to its end.
class Follower {
  public:
    Follower(Context& context, std::string device)
        : context_(context),
          client_(context.client()),
          device_(std::move(device)),
          is_terminal_(::isatty(STDOUT_FILENO) != 0) {}

    void run() {
        for (;;) {
            auto status = client_.get("/v1/removals/" + url_encode(device_) +
                                      "?wait_version=" + std::to_string(version_) +
                                      "&wait_ms=" + std::to_string(kWaitMs));
            if (g_is_interrupted != 0) return report_interrupt();
            if (!status) return context_.fail(status.error());
            version_ = status->value("version", version_);
            const auto phase = status->value("phase", "");
            const bool is_over = status->value("has_ended", false) || phase == "unproven";
            show(*status, is_over);
            if (is_over) return conclude(*status);
        }
    }

  private:
    void show(const Json& status, bool is_over) {
        const auto phase = status.value("phase", "");
        const auto percent =
            percent_done(status.value("bytes_done", 0ull), status.value("bytes_total", 0ull));
        const auto reason = status.value("reason", "");
        // Without a terminal: a line when something worth a line has changed.
        if (!is_over && !is_terminal_ && phase == last_phase_ && reason == last_reason_ &&
            percent < last_percent_ + 10)
            return;
        last_phase_ = phase;
        last_reason_ = reason;
        last_percent_ = percent;
        if (context_.json) {
            std::printf("%s\n",
                        status.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
        } else {
            std::printf("%s%s", is_terminal_ ? "\r\033[K" : "",
                        progress_line(device_, status).c_str());
            if (!is_over && !reason.empty()) std::printf("  %s", reason.c_str());
            if (!is_terminal_ || is_over) std::printf("\n");
        }
        std::fflush(stdout);
    }

    void conclude(const Json& status) {
        const auto phase = status.value("phase", "");
        const auto reason = status.value("reason", "");
        if (phase == "safe") {
            if (context_.json) return;
            std::printf("%s\nsafe to pull: %s (power indicator off)\n",
                        status["proof"].value("summary", "").c_str(), device_.c_str());
        } else if (phase == "unproven") {
            end_with("not safe to pull: " + device_ + ": " + reason +
                         "; it is proved again every second, see: refault device list",
                     kNotSafe);
        } else {
            end_with(device_ + " was not pulled: " + reason, kFailed);
        }
    }

    // With --json the last status line has said it all.
    void end_with(const std::string& reason, int exit_status) {
        std::fprintf(stderr, "refault: %s\n", reason.c_str());
        context_.status = std::max(context_.status, exit_status);
    }

    void report_interrupt() {
        if (is_terminal_ && !context_.json) std::printf("\n");
        end_with("the pull of " + device_ +
                     " is still under way; cancel it with: refault device cancel " + device_,
                 kFailed);
    }

    Context& context_;
    const ControlClient client_;
    const std::string device_;
    const bool is_terminal_;
    std::uint64_t version_ = 0;
    std::string last_phase_;
    std::string last_reason_;
    unsigned last_percent_ = 0;
};

void pull(Context& context, const PullArguments& arguments) {
    auto body = request_of(arguments);
    if (!body) return context.fail(body.error(), kWrongUsage);
    auto answer = context.client().post("/v1/pull", *body);
    if (!answer) return context.fail(answer.error());
    if (arguments.dry_run) {
        context.finish(answer, show_plan);
        if (!answer->value("is_possible", false)) context.status = kFailed;
        return;
    }
    if (arguments.no_wait)
        return context.finish(
            answer, [](const Json&) { std::printf("under way; see: refault device list\n"); });
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    ::sigaction(SIGINT, &action, nullptr);
    for (const auto& device : arguments.devices) {
        Follower(context, device).run();
        if (g_is_interrupted != 0) return;
    }
}

}  // namespace

void add_pull_commands(CLI::App& device, Context& context) {
    auto arguments = std::make_shared<PullArguments>();
    CLI::App* command = add_command(
        device, context, "pull",
        "Move everything off devices, prove that nobody holds them, turn their indicator off",
        "  refault device pull b --dry-run         what would move, who is affected, is there "
        "room\n"
        "  refault device pull b --rate 500M/s\n"
        "  refault device pull b c                 both leave, none is a target\n"
        "Exit status: 0 safe to pull, 1 refused or failed, 2 usage, 3 moved but still held by a "
        "process",
        [&context, arguments] { pull(context, *arguments); });
    command->add_option("devices", arguments->devices, "The devices")->required();
    command->add_flag("--dry-run", arguments->dry_run, "Only show what would be done");
    command->add_flag("--no-wait", arguments->no_wait, "Start it and return");
    command->add_option("--rate", arguments->rate,
                        "Move at most so many bytes a second, for example 500M/s");
    command->add_flag("--accept-pinned", arguments->accept_pinned,
                      "Say safe also while the kernel holds pages for transfers that may be of "
                      "these devices");
    command->add_option("--timeout", arguments->timeout,
                        "Give up and go back in service when the data has not moved by then");
}

}  // namespace refault::cli
