// refault set, punch, fail, failures, lost, resync, pool scrub.
#include <unistd.h>

#include <cstdio>
#include <ctime>

#include "base/units.h"
#include "cli/command.h"
#include "cli/pull_text.h"

namespace refault::cli {

using base::Code;
using base::Error;
using base::format_size;

namespace {

constexpr unsigned kPollUs = 200'000;

std::string local_time(std::uint64_t ns) {
    const auto seconds = static_cast<std::time_t>(ns / 1'000'000'000);
    std::tm parts{};
    ::localtime_r(&seconds, &parts);
    char text[32];
    std::strftime(text, sizeof text, "%F %T", &parts);
    return text;
}

std::string list_of(const Json& numbers) {
    std::string text;
    for (const auto& number : numbers) text += (text.empty() ? "" : ",") + number.dump();
    return text.empty() ? "none" : text;
}

void show_redundancy(const Json& file) {
    std::printf("replicas=%u on-loss=%s\n", file.value("replicas", 1u),
                file.value("on_loss", "").c_str());
}

void show_failure(const Json& record) {
    std::printf("failure %llu  %s  %s  %s 0x%llx-0x%llx\n", record.value("failure", 0ull),
                local_time(record.value("noticed_ns", 0ull)).c_str(),
                record.value("kind", "").c_str(), record.value("device", "").c_str(),
                record.value("device_begin", 0ull), record.value("device_end", 0ull));
    std::printf("  unmapped after %s, repaired after %s, proven after %s, signals %s to %s\n",
                ms_or_dash(record["unmapped_ms"]).c_str(),
                ms_or_dash(record["repaired_ms"]).c_str(), ms_or_dash(record["proven_ms"]).c_str(),
                ms_or_dash(record["first_signal_ms"]).c_str(),
                ms_or_dash(record["last_signal_ms"]).c_str());
    for (const auto& part : record["parts"])
        std::printf("  %-18s %s bytes 0x%llx-0x%llx, copy %u; mapped by pid %s\n",
                    part.value("outcome", "").c_str(), printable(part.value("path", "")).c_str(),
                    part.value("file_begin", 0ull), part.value("file_end", 0ull),
                    part.value("replica", 0u), list_of(part["spanning_pids"]).c_str());
    for (const auto& one : record["signalled"])
        std::printf("  told pid %d at 0x%llx: %s, after %s\n", one.value("pid", 0),
                    one.value("address", 0ull), one.value("why", "").c_str(),
                    ms_or_dash(one["after_ms"]).c_str());
    if (const auto left = record.value("parts_left_out", 0ull); left > 0)
        std::printf("  and %llu more parts that were not lost\n", left);
}

void show_failures(const Json& answer) {
    for (const auto& record : answer["failures"]) show_failure(record);
    if (answer["failures"].empty()) std::printf("nothing has failed\n");
    for (const auto& one : answer["retired"])
        std::printf("retired  device %u 0x%llx-0x%llx after %u failures\n", one.value("device", 0u),
                    one.value("device_begin", 0ull), one.value("device_end", 0ull),
                    one.value("failures", 0u));
}

void show_lost(const Json& answer) {
    for (const auto& one : answer["lost"])
        std::printf("%s (inode %llu) bytes 0x%llx-0x%llx  %s of %s 0x%llx at %s  signalled: %s\n",
                    all_paths(one).c_str(), one.value("inode", 0ull), one.value("file_begin", 0ull),
                    one.value("file_end", 0ull), one.value("kind", "").c_str(),
                    one.value("device", "").c_str(), one.value("device_begin", 0ull),
                    local_time(one.value("lost_ns", 0ull)).c_str(),
                    list_of(one["signalled_pids"]).c_str());
    if (answer["lost"].empty()) std::printf("nothing is lost\n");
}

void show_resync(const Json& status) {
    if (status.value("is_running", false))
        std::printf("making copies: %s of %s done, %llu files left, now %s\n",
                    format_size(status.value("bytes_done", 0ull)).c_str(),
                    format_size(status.value("bytes_total", 0ull)).c_str(),
                    status.value("files_left", 0ull), printable(status.value("path", "")).c_str());
    else
        std::printf("idle\n");
    if (const auto missing = status.value("short_bytes", 0ull); missing > 0)
        std::printf("%s of copies find no place on another device: add one\n",
                    format_size(missing).c_str());
}

// Follows a background job at `target` until it is not running; shows a line of progress.
base::Result<Json> follow(Context& context, const char* target, const char* what) {
    const bool is_shown = ::isatty(STDERR_FILENO) != 0 && !context.json;
    for (;;) {
        auto status = context.client().get(target);
        if (!status) return status;
        if (is_shown)
            std::fprintf(stderr, "\r\033[K%s  %s of %s", what,
                         format_size(status->value("bytes_done", 0ull)).c_str(),
                         format_size(status->value("bytes_total", 0ull)).c_str());
        if (status->value("is_running", false)) {
            ::usleep(kPollUs);
            continue;
        }
        if (is_shown) std::fprintf(stderr, "\r\033[K");
        return status;
    }
}

void set_redundancy(Context& context, const std::vector<std::string>& settings,
                    const std::string& path, bool waits) {
    Json body = {{"path", path}};
    for (const auto& setting : settings) {
        const auto equals = setting.find('=');
        const auto key = setting.substr(0, equals);
        const auto value = equals == setting.npos ? "" : setting.substr(equals + 1);
        auto number = base::parse_size(value);
        if (key == "replicas" && number)
            body["replicas"] = *number;
        else if (key == "on-loss" && !value.empty())
            body["on_loss"] = value;
        else
            return context.fail(
                Error(Code::Invalid, "'" + setting +
                                         "' is no setting; say replicas=NUMBER, on-loss=signal or "
                                         "on-loss=rollback"),
                kWrongUsage);
    }
    auto answer = context.client().post("/v1/files/set", body);
    if (answer && waits)
        if (auto done = follow(context, "/v1/resync", "making copies"); !done)
            return context.fail(done.error());
    context.finish(answer, show_redundancy);
}

void add_failure_commands(CLI::App& app, Context& context) {
    struct Arguments {
        std::string device, offset, length, kind;
        bool all = false;
        bool yes = false;
        bool dry_run = false;
    };
    auto arguments = std::make_shared<Arguments>();
    CLI::App* fail = add_command(
        app, context, "fail", "Report that a range of a device, or all of it, is bad or gone",
        "  refault fail b 16M 4096                    a bad page: repaired from another copy, else "
        "lost\n"
        "  refault fail b 16M 4096 --dry-run          what that would touch\n"
        "  refault fail b --all --yes                 the device is gone",
        [&context, arguments] {
            Json body = Json::object();
            if (!arguments->kind.empty()) body["kind"] = arguments->kind;
            if (arguments->all) {
                if (!arguments->yes)
                    return context.fail(
                        Error(Code::Invalid,
                              "what has no other copy is lost with the device; add --yes if it is "
                              "gone"),
                        kWrongUsage);
                body["all"] = true;
            } else {
                auto offset = base::parse_size(arguments->offset);
                if (!offset) return context.fail(offset.error(), kWrongUsage);
                auto length = base::parse_size(arguments->length);
                if (!length) return context.fail(length.error(), kWrongUsage);
                body["offset"] = *offset;
                body["length"] = *length;
            }
            if (arguments->dry_run && !arguments->all)
                return context.finish(
                    context.client().get("/v1/locate?device=" + url_encode(arguments->device) +
                                         "&offset=" + body["offset"].dump() +
                                         "&length=" + body["length"].dump()),
                    [](const Json& owners) {
                        std::printf("%zu parts would be touched; nothing was changed\n",
                                    owners["owners"].size());
                    });
            context.finish(context.client().post(
                               "/v1/devices/" + url_encode(arguments->device) + "/fail", body),
                           show_failure);
        });
    fail->add_option("device", arguments->device, "The device")->required();
    fail->add_option("offset", arguments->offset, "Where on the device, for example 16M");
    fail->add_option("length", arguments->length, "How many bytes");
    fail->add_option("--kind", arguments->kind,
                     "poison (the usual), surprise-removal, io-error, checksum");
    fail->add_flag("--all", arguments->all, "The whole device is gone");
    fail->add_flag("--yes", arguments->yes, "Yes, what has no other copy is lost");
    fail->add_flag("--dry-run", arguments->dry_run, "Only say what lies there");
    add_command(
        app, context, "failures", "Show what has failed, who was told, and how long it took",
        "  refault failures --json",
        [&context] { context.finish(context.client().get("/v1/failures"), show_failures); });
    add_command(app, context, "lost", "List every file range that is lost, open or not",
                "  refault lost --json",
                [&context] { context.finish(context.client().get("/v1/lost"), show_lost); });
    add_command(app, context, "resync", "Show whether missing copies are being made",
                "  refault resync",
                [&context] { context.finish(context.client().get("/v1/resync"), show_resync); });
}

}  // namespace

void add_scrub_command(CLI::App& pool, Context& context) {
    struct Flags {
        bool status = false;
        bool cancel = false;
    };
    auto flags = std::make_shared<Flags>();
    CLI::App* scrub = add_command(
        pool, context, "scrub", "Read everything, compare the copies, repair what can be repaired",
        "  refault pool scrub\n  refault pool scrub --cancel", [&context, flags] {
            if (flags->cancel)
                return context.finish(context.client().post("/v1/scrub/cancel", Json::object()),
                                      [](const Json&) { std::printf("cancelled\n"); });
            if (!flags->status) {
                auto started = context.client().post("/v1/scrub", Json::object());
                if (!started) return context.fail(started.error());
            }
            auto status = flags->status ? context.client().get("/v1/scrub")
                                        : follow(context, "/v1/scrub", "scrubbing");
            context.finish(status, [](const Json& scrubbed) {
                if (scrubbed.value("is_running", false) || scrubbed["last"].is_null()) {
                    std::printf("%s of %s read\n",
                                format_size(scrubbed.value("bytes_done", 0ull)).c_str(),
                                format_size(scrubbed.value("bytes_total", 0ull)).c_str());
                    return;
                }
                const auto& last = scrubbed["last"];
                std::printf(
                    "%llu files, %s: %s differed and were made equal, %llu errors, %s lost%s\n",
                    last.value("files", 0ull), format_size(last.value("bytes_read", 0ull)).c_str(),
                    format_size(last.value("differing_bytes", 0ull)).c_str(),
                    last.value("errors", 0ull), format_size(last.value("lost_bytes", 0ull)).c_str(),
                    last.value("was_cancelled", false) ? "; cancelled" : "");
            });
        });
    scrub->add_flag("--status", flags->status, "Only show how far it is");
    scrub->add_flag("--cancel", flags->cancel, "Stop the one that is running");
}

void add_loss_commands(CLI::App& app, Context& context) {
    add_failure_commands(app, context);
    struct Arguments {
        std::string path, offset, length;
        std::vector<std::string> settings;
        bool waits = false;
    };
    auto arguments = std::make_shared<Arguments>();
    CLI::App* set = add_command(
        app, context, "set", "Set how many copies a file has, and what a loss does",
        "  refault set /state replicas=2\n"
        "  refault set /state replicas=2 --wait         return when the copies are there\n"
        "  refault set /cache on-loss=rollback          older bytes come back without a signal\n"
        "  refault set / replicas=2                     for files made there from now on",
        [&context, arguments] {
            set_redundancy(context, arguments->settings, arguments->path, arguments->waits);
        });
    set->add_option("path", arguments->path, "The file or directory")->required();
    set->add_option("settings", arguments->settings, "replicas=NUMBER, on-loss=signal|rollback")
        ->required();
    set->add_flag("--wait", arguments->waits, "Return when the copies are there");
    CLI::App* punch = add_command(
        app, context, "punch", "Make whole pages of a file zeros; what was lost there can be used",
        "  refault punch /state 0 4096 --yes", [&context, arguments] {
            auto offset = base::parse_size(arguments->offset);
            if (!offset) return context.fail(offset.error(), kWrongUsage);
            auto length = base::parse_size(arguments->length);
            if (!length) return context.fail(length.error(), kWrongUsage);
            if (!arguments->waits)
                return context.fail(Error(Code::Invalid, "the bytes there become zeros; add --yes"),
                                    kWrongUsage);
            context.finish(context.client().post("/v1/files/punch", {{"path", arguments->path},
                                                                     {"offset", *offset},
                                                                     {"length", *length}}),
                           [](const Json&) { std::printf("punched\n"); });
        });
    punch->add_option("path", arguments->path, "The file")->required();
    punch->add_option("offset", arguments->offset, "From here, in whole pages")->required();
    punch->add_option("length", arguments->length, "How many bytes, whole pages")->required();
    punch->add_flag("--yes", arguments->waits, "Yes, the bytes there become zeros");
}

}  // namespace refault::cli
