// Planning, following and judging the pull.
#include "cli/demo_pull.h"

#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "base/units.h"

namespace refault::cli {

using base::Code;
using base::Error;
using base::Status;
using std::chrono::duration;
using std::chrono::steady_clock;

namespace {

constexpr double kPullLimitS = 60;
constexpr double kProofLimitS = 30;
const std::string kPulled = "dimm1";

class PullAct {
  public:
    explicit PullAct(DemoStage& stage) : stage_(stage), report_(stage.report()) {}

    Status play() {
        stage_.shared().phase.store(DemoPhase::Pull);
        RETURN_IF_ERROR(plan());
        RETURN_IF_ERROR(pull());
        stage_.shared().phase.store(DemoPhase::Quiet);
        RETURN_IF_ERROR(judge());
        RETURN_IF_ERROR(stage_.run_for(stage_.options().seconds, "clients go on"));
        RETURN_IF_ERROR(stage_.survey());
        report_.step("every process has verified every record");
        for (std::size_t i = 0; i < kDemoClients; ++i)
            report_.add_pull(i, stage_.shared().clients[i], stage_.file_bytes() / kRecordBytes);
        report_.show_pull();
        return {};
    }

  private:
    Status plan() {
        auto plan =
            stage_.control().post("/v1/pull", Json{{"devices", {kPulled}}, {"dry_run", true}});
        if (!plan) return plan.error();
        report_.step("plan: move " +
                     base::format_size(plan->value("bytes_to_move", std::uint64_t{0})) + " off " +
                     kPulled + ", room for " +
                     base::format_size(plan->value("free_bytes_elsewhere", std::uint64_t{0})));
        return {};
    }

    Status pull() {
        const auto start = steady_clock::now();
        auto accepted = stage_.control().post("/v1/pull", Json{{"devices", {kPulled}}});
        if (!accepted) return accepted.error();
        report_.step("pull " + kPulled + ": indicator blinks");
        std::uint64_t shown_percent = 0;
        auto status = stage_.wait_for_answer(
            "/v1/removals/" + kPulled, kPullLimitS, [&](const Json& removal) {
                const auto phase = removal.value("phase", "");
                show_progress(removal, shown_percent);
                const auto waited = duration<double>(steady_clock::now() - start).count();
                return phase == "safe" || phase == "cancelled" || phase == "failed" ||
                       (phase == "unproven" &&
                        (lacks_rights_alone(removal) || waited > kProofLimitS));
            });
        if (!status) return status.error();
        report_.removal = *status;
        report_.pull_seconds = duration<double>(steady_clock::now() - start).count();
        return {};
    }

    void show_progress(const Json& removal, std::uint64_t& shown_percent) {
        const auto total = removal.value("bytes_total", std::uint64_t{0});
        const auto percent =
            total == 0 ? 100 : removal.value("bytes_done", std::uint64_t{0}) * 100 / total;
        if (removal.value("phase", "") != "moving-data" || percent < shown_percent + 25) return;
        shown_percent = percent - percent % 25;
        report_.step("moved " + std::to_string(shown_percent) + " %");
    }

    Status judge() {
        const auto phase = report_.removal.value("phase", "");
        if (phase == "unproven" && lacks_rights_alone(report_.removal)) return check_amber();
        if (phase != "safe")
            return Error(Code::Io, kPulled + " is not safe to pull: " + phase + ": " +
                                       report_.removal.value("reason", ""));
        report_.step("proven: no process maps or holds a segment of " + kPulled);
        RETURN_IF_ERROR(read_indicator());
        if (report_.power != "off")
            return Error(Code::Io, "the power indicator is " + report_.power + ", not off");
        report_.step("power indicator off: " + kPulled + " is safe to pull");
        return {};
    }

    // An ordinary user's daemon cannot look into other users' processes, and says so.
    static bool lacks_rights_alone(const Json& removal) {
        if (::geteuid() == 0 || !removal.contains("proof")) return false;
        const auto& proof = removal["proof"];
        return proof["holders"].empty() && !proof["unreadable_pids"].empty() &&
               proof.value("hidden_inodes", 0) == 0 && proof.value("pinned_pages", 0) == 0;
    }

    Status check_amber() {
        const auto& proof = report_.removal["proof"];
        report_.step("nobody holds " + kPulled + " among the " +
                     std::to_string(proof.value("processes_read", 0)) +
                     " processes that could be read");
        RETURN_IF_ERROR(read_indicator());
        if (report_.power == "off")
            return Error(Code::Io, "the power indicator is off without a proof");
        report_.step("indicator stays amber: " + std::to_string(proof["unreadable_pids"].size()) +
                     " processes of other users could not be read; as root this ends in safe");
        return {};
    }

    Status read_indicator() {
        auto device = stage_.control().get("/v1/devices/" + kPulled);
        if (!device) return device.error();
        report_.power = device->contains("slot") ? (*device)["slot"].value("power", "?") : "?";
        return {};
    }

    DemoStage& stage_;
    DemoReport& report_;
};

}  // namespace

Status play_pull(DemoStage& stage) {
    return PullAct(stage).play();
}

}  // namespace refault::cli
