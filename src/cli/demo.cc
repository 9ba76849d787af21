// The demo from its start to its verdict.
#include "cli/demo.h"

#include "cli/demo_database.h"
#include "cli/demo_loss.h"
#include "cli/demo_pull.h"
#include "cli/demo_stage.h"

namespace refault::cli {

namespace {

base::Status play(DemoStage& stage) {
    RETURN_IF_ERROR(stage.start());
    RETURN_IF_ERROR(stage.run_for(stage.options().seconds, "clients run"));
    RETURN_IF_ERROR(play_pull(stage));
    RETURN_IF_ERROR(play_loss(stage));
    RETURN_IF_ERROR(stage.end_clients());
    RETURN_IF_ERROR(play_database(stage));
    return stage.stop_pool();
}

}  // namespace

int run_demo(const DemoOptions& options) {
    DemoStage::catch_interrupts();
    DemoReport report(options.json);
    DemoStage stage(options, report);
    if (const auto played = play(stage); !played) {
        // Then whatever else has failed did so because its process was told to end as well.
        const auto interrupted = DemoStage::check_interrupt();
        report.fail(interrupted ? played.error().message() : interrupted.error().message());
        if (interrupted && stage.has_lost_daemon()) report.fail("the daemon has ended");
    }
    return report.finish();
}

}  // namespace refault::cli
