// refault doctor.
#include <algorithm>
#include <cstdio>

#include "cli/command.h"
#include "cli/doctor.h"

namespace refault::cli {

const char* state_name(CheckState state) noexcept {
    switch (state) {
        case CheckState::Ok:
            return "ok";
        case CheckState::Limited:
            return "limited";
        case CheckState::Missing:
            return "missing";
    }
    return "unknown";
}

std::vector<Check> judge(const DoctorFacts& facts) {
    auto checks = judge_kernel(facts);
    for (auto& check : judge_surroundings(facts)) checks.push_back(std::move(check));
    return checks;
}

namespace {

Json to_json(const std::vector<Check>& checks) {
    Json list = Json::array();
    for (const auto& check : checks)
        list.push_back({{"check", check.name},
                        {"state", state_name(check.state)},
                        {"found", check.found},
                        {"effect", check.effect},
                        {"remedy", check.remedy}});
    return list;
}

void show(const Json& answer) {
    for (const auto& check : answer["checks"]) {
        const auto text = [&](const char* field) { return printable(check.value(field, "")); };
        std::printf("%-8s %-22s %s\n", text("state").c_str(), text("check").c_str(),
                    text("found").c_str());
        if (check.value("effect", "").empty()) continue;
        std::printf("         so:   %s\n", text("effect").c_str());
        std::printf("         mend: %s\n", text("remedy").c_str());
    }
    std::printf("%s\n", answer.value("is_usable", false) ? "this machine can run Refault"
                                                         : "something that is needed is missing");
}

void run(Context& context) {
    const auto checks = judge(gather_facts(context.run_dir, context.client().socket_path()));
    const bool is_usable = std::none_of(checks.begin(), checks.end(), [](const Check& check) {
        return check.state == CheckState::Missing;
    });
    context.finish(Json{{"checks", to_json(checks)}, {"is_usable", is_usable}}, show);
    if (!is_usable) context.status = kFailed;
}

}  // namespace

void add_doctor_command(CLI::App& app, Context& context) {
    add_command(app, context, "doctor", "Check what this machine can do; changes nothing",
                "  refault doctor\n"
                "  refault doctor --json\n"
                "  sudo -u alice refault doctor      what her programs will have\n"
                "Needs no daemon. Exit status: 0 all that is needed is there, 1 something is "
                "missing, 2 usage",
                [&context] { run(context); });
}

}  // namespace refault::cli
