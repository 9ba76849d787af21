// The plan, the pull, and what the clients saw of it.
#include "cli/demo_pull.h"

#include <nlohmann/json.hpp>
#include <string>

#include "base/units.h"
#include "cli/demo_removal.h"

namespace refault::cli {

using base::Status;

namespace {

const std::string kPulled = "dimm1";

class PullAct {
  public:
    explicit PullAct(DemoStage& stage) : stage_(stage), report_(stage.report()) {}

    Status play() {
        stage_.shared().phase.store(DemoPhase::Pull);
        RETURN_IF_ERROR(plan());
        const auto pulled = pull_device(stage_, kPulled, report_.removal);
        stage_.shared().phase.store(DemoPhase::Quiet);
        RETURN_IF_ERROR(pulled);
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

    DemoStage& stage_;
    DemoReport& report_;
};

}  // namespace

Status play_pull(DemoStage& stage) {
    return PullAct(stage).play();
}

}  // namespace refault::cli
