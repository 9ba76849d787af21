// refault fail: says what would happen first, and does nothing that costs the only copy unasked.
#include <cstdio>

#include "base/units.h"
#include "cli/command.h"
#include "cli/loss_text.h"

namespace refault::cli {

using base::Code;
using base::Error;

namespace {

constexpr std::size_t kNamedPartsMax = 3;

struct FailArguments {
    std::string device, offset, length, kind;
    bool all = false;
    bool yes = false;
    bool dry_run = false;
};

base::Result<Json> request_of(const FailArguments& arguments) {
    Json body = Json::object();
    if (!arguments.kind.empty()) body["kind"] = arguments.kind;
    if (arguments.all && !arguments.offset.empty())
        return Error(Code::Invalid, "say either OFFSET LENGTH or --all, not both");
    if (arguments.all) {
        body["all"] = true;
        return body;
    }
    if (arguments.offset.empty() || arguments.length.empty())
        return Error(Code::Invalid, "say OFFSET LENGTH, or --all");
    auto offset = base::parse_size(arguments.offset);
    if (!offset) return offset.error();
    auto length = base::parse_size(arguments.length);
    if (!length) return length.error();
    body["offset"] = *offset;
    body["length"] = *length;
    return body;
}

void show_plan(const Json& plan) {
    for (const auto& part : plan["parts"]) std::printf("%s\n", planned_part_line(part).c_str());
    if (plan["parts"].empty()) std::printf("nothing is stored there\n");
    std::printf("nothing was changed\n");
}

// Empty when everything has another copy.
std::string what_is_lost(const Json& plan) {
    std::string named;
    std::uint64_t bytes = 0;
    std::size_t parts = 0;
    for (const auto& part : plan["parts"]) {
        if (part.value("outcome", "") != "lost") continue;
        const auto begin = part.value("file_begin", 0ull), end = part.value("file_end", 0ull);
        bytes += end - begin;
        if (++parts > kNamedPartsMax) continue;
        char range[64];
        std::snprintf(range, sizeof range, " bytes 0x%llx-0x%llx", begin, end);
        named += (named.empty() ? "" : ", ") + part.value("path", "") + range;
    }
    if (parts == 0) return {};
    if (parts > kNamedPartsMax) named += " and " + count_of(parts - kNamedPartsMax, "more part");
    return base::format_size(bytes) + " would be lost, having no other copy: " + named;
}

void fail_range(Context& context, const FailArguments& arguments) {
    auto body = request_of(arguments);
    if (!body) return context.fail(body.error(), kWrongUsage);
    const auto target = "/v1/devices/" + url_encode(arguments.device) + "/fail";
    Json question = *body;
    question["dry_run"] = true;
    if (arguments.dry_run)
        return context.finish(context.client().post(target, question), show_plan);
    if (!arguments.yes && arguments.kind != "planned-removal") {
        auto plan = context.client().post(target, question);
        if (!plan) return context.fail(plan.error());
        auto lost = what_is_lost(*plan);
        if (lost.empty() && arguments.all) lost = "the whole device would be given up";
        if (!lost.empty())
            return context.fail(Error(Code::Invalid, lost + "; add --yes if that is so"),
                                kWrongUsage);
    }
    context.finish(context.client().post(target, *body), show_failure);
}

}  // namespace

void add_fail_command(CLI::App& app, Context& context) {
    auto arguments = std::make_shared<FailArguments>();
    CLI::App* fail = add_command(
        app, context, "fail", "Report that a range of a device, or all of it, is bad or gone",
        "  refault fail b 16M 4096 --dry-run     what would be repaired, what be lost\n"
        "  refault fail b 16M 4096               a bad page: repaired from another copy\n"
        "  refault fail b 16M 4096 --yes         the same, also where there is no other copy\n"
        "  refault fail b --all --yes            the device is gone\n"
        "Ranges are widened to whole pages of 4096 bytes. Without --yes nothing is done that costs "
        "the only copy of anything (exit status 2)",
        [&context, arguments] { fail_range(context, *arguments); });
    fail->add_option("device", arguments->device, "The device")->required();
    fail->add_option("offset", arguments->offset, "Where on the device, for example 16M or 0x1000");
    fail->add_option("length", arguments->length, "How many bytes");
    fail->add_option("--kind", arguments->kind,
                     "poison (the usual), io-error or checksum; with --all also surprise-removal "
                     "(the usual) or planned-removal, which is a pull");
    fail->add_flag("--all", arguments->all, "The whole device is gone");
    fail->add_flag("--yes", arguments->yes, "Yes, what has no other copy is lost");
    fail->add_flag("--dry-run", arguments->dry_run,
                   "Only say what would become of what lies there");
}

}  // namespace refault::cli
