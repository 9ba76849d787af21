// The request to be replaced by another program, and what is given to it.
#include <unistd.h>

#include <array>
#include <chrono>

#include "base/version.h"
#include "daemon/control_api.h"

namespace refault::daemon {

using base::Code;
using base::Error;

namespace {

constexpr std::chrono::seconds kRequestPatience{10};

// Of the program that runs, also when its file was replaced meanwhile: then the new file.
Result<std::string> own_path() {
    std::array<char, 4096> path{};
    const auto length = ::readlink("/proc/self/exe", path.data(), path.size());
    if (length <= 0) return base::sys_error("/proc/self/exe");
    std::string text(path.data(), static_cast<std::size_t>(length));
    constexpr std::string_view kDeleted = " (deleted)";
    if (text.ends_with(kDeleted)) text.resize(text.size() - kDeleted.size());
    return text;
}

}  // namespace

void ControlApi::add_upgrade_route(std::map<std::string, Handler>& routes) {
    routes["POST /v1/upgrade"] = [this](const ApiRequest& request) -> Result<Json> {
        auto body = parse_body(request.body, {"program", "dry_run"});
        if (!body) return body.error();
        auto is_dry_run = flag_field(*body, "dry_run");
        if (!is_dry_run) return is_dry_run.error();
        auto program = body->contains("program") ? text_field(*body, "program") : own_path();
        if (!program) return program.error();
        if (desk_ == nullptr)
            return Error(Code::NotSupported, "this daemon cannot be replaced while it runs");
        auto successor = probe_successor(*program);
        if (!successor) return successor.error();
        const auto open = pool();
        // One that is being opened could not be handed over.
        if (is_being_opened(open)) return open.error();
        if (open) RETURN_IF_ERROR((*open)->check_may_hand_over());
        Json answer{{"program", successor->path},
                    {"version", successor->version},
                    {"from_version", base::kVersion},
                    {"pool", open ? Json((*open)->store().pool_name()) : Json()},
                    {"sessions", open ? (*open)->registry().sessions().size() : 0},
                    {"mounts", open ? mounts_json(**open) : Json::array()},
                    {"upgrades", desk_->view().count}};
        if (*is_dry_run) return answer;
        answer["accepted"] = successor->path;
        desk_->ask(std::move(*successor));
        return answer;
    };
}

Status ControlApi::begin_hand_over() {
    const auto open = pool();
    if (is_being_opened(open)) return open.error();
    if (!open) return {};
    return (*open)->hold_requests(std::chrono::steady_clock::now() + kRequestPatience);
}

Result<HandOver> ControlApi::hand_over() {
    HandOver handed_over;
    if (const auto open = pool()) {
        auto of_pool = (*open)->hand_over();
        if (!of_pool) return of_pool.error();
        handed_over = std::move(*of_pool);
    }
    handed_over.last_event = events_.last_sequence();
    if (desk_ != nullptr) handed_over.upgrades = desk_->view().count + 1;
    return handed_over;
}

Status ControlApi::take_over(HandOver& handed_over) {
    base::MutexLock one_at_a_time(change_mutex_);
    if (!handed_over.devices.empty()) {
        auto taken = Pool::take_over(handed_over, options_, events_);
        if (!taken) return taken.error();
        keep(std::move(*taken));
    }
    // Last: who waits for the new daemon finds all of it.
    if (desk_ != nullptr) desk_->set_count(handed_over.upgrades);
    return {};
}

}  // namespace refault::daemon
