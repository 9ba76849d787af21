// Copies, bad pages, a torn-out device, and the judgement.
#include "cli/demo_loss.h"

#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/units.h"
#include "cli/demo_harm.h"
#include "cli/demo_places.h"
#include "cli/demo_rules.h"
#include "cli/pull_text.h"

namespace refault::cli {

using base::Code;
using base::Error;
using base::FileRange;
using base::format_size;
using base::Status;
using std::chrono::steady_clock;

namespace {

constexpr double kRepairedLimitS = 60;
constexpr std::size_t kSingle = 3;  // the client whose file keeps one copy

class LossAct {
  public:
    explicit LossAct(DemoStage& stage) : stage_(stage), report_(stage.report()) {
        for (std::size_t i = 0; i < kDemoClients; ++i)
            files_.push_back({DemoStage::file_of(i), i == kSingle ? 1u : 2u, i == kSingle - 1});
    }

    Status play() {
        RETURN_IF_ERROR(make_copies());
        RETURN_IF_ERROR(choose());
        stage_.shared().phase.store(DemoPhase::Loss);
        RETURN_IF_ERROR(poison_page(stage_, single_page_, "lost"));
        RETURN_IF_ERROR(poison_page(stage_, copied_page_, "repaired"));
        RETURN_IF_ERROR(yank());
        RETURN_IF_ERROR(stage_.run_for(stage_.options().seconds, "clients go on"));
        RETURN_IF_ERROR(wait_for_redundancy());
        RETURN_IF_ERROR(stage_.survey());
        RETURN_IF_ERROR(judge());
        RETURN_IF_ERROR(punch());
        stage_.shared().phase.store(DemoPhase::Quiet);
        report_.show_loss();
        return {};
    }

  private:
    Status make_copies() {
        const auto start = steady_clock::now();
        for (const auto& file : files_) {
            Json body{{"path", file.path}, {"replicas", file.copies}};
            if (file.rolls_back) body["on_loss"] = "rollback";
            if (file.copies == 1) continue;
            if (auto set = stage_.control().post("/v1/files/set", body); !set) return set.error();
        }
        RETURN_IF_ERROR(wait_for_copies());
        const std::chrono::duration<double, std::milli> took = steady_clock::now() - start;
        report_.step("files 0, 1 and 2 have a second copy on another device, made in " +
                     ms_or_dash(took.count()) + " while they are written; file 3 has none");
        return {};
    }

    // Idle, nothing missing, and the reverse map agrees.
    Status wait_for_copies() {
        RETURN_IF_ERROR(wait_for_resync(stage_));
        RETURN_IF_ERROR(read_places());
        for (const auto& file : files_)
            if (file.copies > 1) RETURN_IF_ERROR(check_copies(parts_, file, stage_.file_bytes()));
        return {};
    }

    Status read_places() {
        auto parts = read_parts(stage_.control());
        if (!parts) return parts.error();
        parts_ = std::move(*parts);
        return {};
    }

    Status choose() {
        yanked_ = device_to_yank(parts_, files_);
        const auto single = page_elsewhere(parts_, files_[kSingle].path, yanked_);
        const auto copied = page_elsewhere(parts_, files_[0].path, yanked_);
        if (yanked_.empty() || !single || !copied)
            return Error(Code::Io, "the files lie so that no device can be torn out for the demo");
        single_page_ = *single;
        copied_page_ = *copied;
        hit_[kSingle].push_back(FileRange::of_length(single->file_offset, kRecordBytes));
        hit_[0].push_back(FileRange::of_length(copied->file_offset, kRecordBytes));
        return {};
    }

    Status yank() {
        std::uint64_t bytes = 0;
        for (std::size_t i = 0; i < kDemoClients; ++i) {
            const auto ranges = primary_ranges(parts_, files_[i], yanked_);
            hit_[i].insert(hit_[i].end(), ranges.begin(), ranges.end());
            bytes += length_of(ranges);
        }
        return tear_out(
            stage_, yanked_,
            format_size(bytes) + " that the programs use, " +
                format_size(length_of(primary_ranges(parts_, files_[kSingle], yanked_))) +
                " without a copy");
    }

    // Then nothing is repaired.
    static bool is_all_lost(const Json& record) {
        const auto& parts = record["parts"];
        return std::all_of(parts.begin(), parts.end(),
                           [](const Json& part) { return part.value("outcome", "") == "lost"; });
    }

    Status wait_for_redundancy() {
        RETURN_IF_ERROR(wait_for_copies());
        auto failures =
            stage_.wait_for_answer("/v1/failures", kRepairedLimitS, [](const Json& answer) {
                for (const auto& record : answer["failures"])
                    if (!record["repaired_ms"].is_number() && !is_all_lost(record)) return false;
                return true;
            });
        if (!failures) return failures.error();
        report_.step("idle again: both copies of files 0, 1 and 2 are complete, on two devices");
        return {};
    }

    Status judge() {
        auto failures = stage_.control().get("/v1/failures");
        if (!failures) return failures.error();
        auto lost = stage_.control().get("/v1/lost");
        if (!lost) return lost.error();
        std::vector<DemoWitness> witnesses;
        for (std::size_t i = 0; i < kDemoClients; ++i) {
            witnesses.push_back(witness_of(files_[i], stage_.pid(i), stage_.shared().clients[i],
                                           stage_.file_bytes() / kRecordBytes));
            witnesses.back().hit = hit_[i];
        }
        const auto broken = broken_rules(witnesses, *failures, *lost);
        for (const auto& rule : broken) report_.fail(rule);
        report_.step(std::string("every process has touched every record; ") +
                     (broken.empty() ? "the daemon's report agrees" : "RULES ARE BROKEN"));
        report_.add_loss(witnesses, *failures, *lost, stage_.shared());
        return {};
    }

    // The one copy is gone, but the file is not.
    Status punch() {
        stage_.shared().must_punch.store(1);
        RETURN_IF_ERROR(stage_.wait_for_clients(
            [](const DemoClientState& client) { return client.has_punched.load() != 0; }));
        auto lost = stage_.control().get("/v1/lost");
        if (!lost) return lost.error();
        if (!(*lost)["lost"].empty())
            report_.fail("ranges are lost although their process has punched them");
        report_.step("client 3 has punched what is lost and written it anew");
        return {};
    }

    DemoStage& stage_;
    DemoReport& report_;
    std::vector<DemoFile> files_;  // by client
    std::vector<DemoPart> parts_;
    std::array<std::vector<FileRange>, kDemoClients> hit_;  // by client
    std::string yanked_;
    DemoPage single_page_;
    DemoPage copied_page_;
};

}  // namespace

Status play_loss(DemoStage& stage) {
    return LossAct(stage).play();
}

}  // namespace refault::cli
