// Following and judging it.
#include "cli/demo_removal.h"

#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

namespace refault::cli {

using base::Code;
using base::Error;
using base::Status;
using std::chrono::duration;
using std::chrono::steady_clock;

namespace {

constexpr double kPullLimitS = 60;
constexpr double kProofLimitS = 30;

class Removal {
  public:
    Removal(DemoStage& stage, const std::string& device, DemoRemoval& removal)
        : stage_(stage), report_(stage.report()), device_(device), removal_(removal) {}

    Status play() {
        RETURN_IF_ERROR(pull());
        return judge();
    }

  private:
    Status pull() {
        const auto start = steady_clock::now();
        auto accepted = stage_.control().post("/v1/pull", Json{{"devices", {device_}}});
        if (!accepted) return accepted.error();
        report_.step("pull " + device_ + ": indicator blinks");
        std::uint64_t shown_percent = 0;
        auto status = stage_.wait_for_answer(
            "/v1/removals/" + device_, kPullLimitS, [&](const Json& removal) {
                const auto phase = removal.value("phase", "");
                show_progress(removal, shown_percent);
                const auto waited = duration<double>(steady_clock::now() - start).count();
                return phase == "safe" || phase == "cancelled" || phase == "failed" ||
                       (phase == "unproven" &&
                        (lacks_rights_alone(removal) || waited > kProofLimitS));
            });
        if (!status) return status.error();
        removal_.status = *status;
        removal_.seconds = duration<double>(steady_clock::now() - start).count();
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
        const auto phase = removal_.status.value("phase", "");
        if (phase == "unproven" && lacks_rights_alone(removal_.status)) return check_amber();
        if (phase != "safe")
            return Error(Code::Io, device_ + " is not safe to pull: " + phase + ": " +
                                       removal_.status.value("reason", ""));
        report_.step("proven: no process maps or holds a segment of " + device_);
        RETURN_IF_ERROR(read_indicator());
        if (removal_.power != "off")
            return Error(Code::Io, "the power indicator is " + removal_.power + ", not off");
        report_.step("power indicator off: " + device_ + " is safe to pull");
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
        const auto& proof = removal_.status["proof"];
        report_.step("nobody holds " + device_ + " among the " +
                     std::to_string(proof.value("processes_read", 0)) +
                     " processes that could be read");
        RETURN_IF_ERROR(read_indicator());
        if (removal_.power == "off")
            return Error(Code::Io, "the power indicator is off without a proof");
        report_.step("indicator stays amber: " + std::to_string(proof["unreadable_pids"].size()) +
                     " processes of other users could not be read; as root this ends in safe");
        return {};
    }

    Status read_indicator() {
        auto device = stage_.control().get("/v1/devices/" + device_);
        if (!device) return device.error();
        removal_.power = device->contains("slot") ? (*device)["slot"].value("power", "?") : "?";
        return {};
    }

    DemoStage& stage_;
    DemoReport& report_;
    const std::string device_;
    DemoRemoval& removal_;
};

}  // namespace

Status pull_device(DemoStage& stage, const std::string& device, DemoRemoval& removal) {
    return Removal(stage, device, removal).play();
}

}  // namespace refault::cli
