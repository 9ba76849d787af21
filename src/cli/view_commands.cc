// refault locate, maps, sessions, events; and the demo's hooks.
#include <cstdio>

#include "base/units.h"
#include "cli/command.h"
#include "cli/demo.h"
#include "cli/loss_text.h"

namespace refault::cli {

namespace {

void show_owners(const Json& answer) {
    for (const auto& owner : answer["owners"]) {
        std::printf("%s 0x%llx-0x%llx  ", answer.value("device", "").c_str(),
                    owner.value("device_begin", 0ull), owner.value("device_end", 0ull));
        if (owner.value("owner", "") == "metadata")
            std::printf("metadata\n");
        else
            std::printf("%s (inode %llu) bytes 0x%llx-0x%llx, copy %u\n", all_paths(owner).c_str(),
                        owner.value("inode", 0ull), owner.value("file_begin", 0ull),
                        owner.value("file_end", 0ull), owner.value("replica", 0u));
    }
    if (answer["owners"].empty() && !answer.contains("mappings"))
        std::printf("nothing is stored there\n");
}

// The owners of what is mapped, then who maps it.
void show_page_tables(const Json& answer) {
    show_owners(answer);
    for (const auto& mapping : answer["mappings"]) {
        const auto begin = mapping.value("device_begin", 0ull);
        const auto end = mapping.value("device_end", 0ull);
        std::printf("pid %d (%s)%s  0x%llx-0x%llx  %s 0x%llx-0x%llx%s  ", mapping.value("pid", 0),
                    printable(mapping.value("command", "")).c_str(),
                    mapping.value("is_client", false) ? "" : ", no client of the daemon",
                    mapping.value("address_begin", 0ull), mapping.value("address_end", 0ull),
                    answer.value("device", "").c_str(), begin, end,
                    mapping.value("is_shared", false) ? "" : " private");
        if (!mapping.contains("present")) {
            std::printf("its page table could not be read\n");
            continue;
        }
        std::printf("%s of %s in its page table\n",
                    base::format_size(mapping.value("present_bytes", 0ull)).c_str(),
                    base::format_size(end - begin).c_str());
        // All of it: the line above has said which range that is.
        if (mapping.value("present_bytes", 0ull) == end - begin) continue;
        for (const auto& range : mapping["present"])
            std::printf("    %s 0x%llx-0x%llx\n", answer.value("device", "").c_str(),
                        range.value("device_begin", 0ull), range.value("device_end", 0ull));
    }
    if (answer["mappings"].empty())
        std::printf("none of the %llu processes read maps anything there\n",
                    answer.value("processes_read", 0ull));
    for (const auto& process : answer["unreadable"])
        std::printf("pid %d (%s) could not be read and may map it as well: %s\n",
                    process.value("pid", 0), printable(process.value("command", "")).c_str(),
                    printable(process.value("reason", "")).c_str());
}

void show_maps(const Json& answer) {
    for (const auto& mapping : answer["mappings"]) {
        std::printf("pid %d (%s)  %s  0x%llx-0x%llx  %s bytes 0x%llx-0x%llx\n",
                    mapping.value("pid", 0), printable(mapping.value("command", "")).c_str(),
                    mapping.value("access", "").c_str(), mapping.value("address_begin", 0ull),
                    mapping.value("address_end", 0ull),
                    printable(mapping.value("path", "")).c_str(), mapping.value("file_begin", 0ull),
                    mapping.value("file_end", 0ull));
        for (const auto& range : mapping["device_ranges"]) {
            const auto replica = range.value("replica", 0u);
            const auto copy = replica == 0 ? "" : "copy " + std::to_string(replica) + " ";
            std::printf("    %son %s 0x%llx, %s of the file from 0x%llx\n", copy.c_str(),
                        range.value("device", "").c_str(), range.value("offset", 0ull),
                        base::format_size(range.value("length", 0ull)).c_str(),
                        range.value("file_offset", 0ull));
        }
        if (const auto lost = mapping.value("lost_bytes", 0ull); lost > 0)
            std::printf("    lost: %s\n", base::format_size(lost).c_str());
        if (const auto held = mapping.value("suspended_bytes", 0ull); held > 0)
            std::printf("    held back until accepted: %s\n", base::format_size(held).c_str());
    }
    if (answer["mappings"].empty()) std::printf("no program maps anything\n");
}

void show_sessions(const Json& answer) {
    for (const auto& session : answer["sessions"])
        std::printf("session %llu  pid %d (%s)  uid %u  %s, %s\n", session.value("session", 0ull),
                    session.value("pid", 0), printable(session.value("command", "")).c_str(),
                    session.value("uid", 0u),
                    count_of(session.value("mappings", 0ull), "mapping").c_str(),
                    base::format_size(session.value("mapped_bytes", 0ull)).c_str());
    if (answer["sessions"].empty()) std::printf("no program is connected\n");
}

// False when nobody reads it any more.
bool show_event(const Json& event, bool is_json) {
    if (is_json) {
        std::printf("%s\n", event.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
    } else {
        std::printf("%6llu  %s  %s", event.value("seq", 0ull), event.value("time", "").c_str(),
                    event.value("kind", "").c_str());
        for (const auto& [key, value] : event.items())
            if (key != "seq" && key != "time" && key != "kind")
                std::printf("  %s=%s", key.c_str(),
                            value.is_string() ? printable(value.get<std::string>()).c_str()
                                              : value.dump().c_str());
        std::printf("\n");
    }
    return std::fflush(stdout) == 0;
}

}  // namespace

namespace {

void add_locate_command(CLI::App& app, Context& context) {
    struct Arguments {
        std::string device, offset, length = "4K", by = "rmap";
    };
    auto arguments = std::make_shared<Arguments>();
    CLI::App* locate = add_command(
        app, context, "locate", "Say what is stored in a range of a device, or who maps it",
        "  refault locate b 0 4096\n  refault locate b 16M 2M\n"
        "  refault locate b 16M --by inodes\n  refault locate b 0 64M --by pages --json",
        [&context, arguments] {
            auto offset = base::parse_size(arguments->offset);
            if (!offset) return context.fail(offset.error(), kWrongUsage);
            auto length = base::parse_size(arguments->length);
            if (!length) return context.fail(length.error(), kWrongUsage);
            const bool is_default = arguments->by == "rmap";
            context.finish(
                context.client().get("/v1/locate?device=" + url_encode(arguments->device) +
                                     "&offset=" + std::to_string(*offset) +
                                     "&length=" + std::to_string(*length) +
                                     (is_default ? "" : "&by=" + arguments->by)),
                arguments->by == "pages" ? show_page_tables : show_owners);
        });
    locate->add_option("device", arguments->device, "The device")->required();
    locate->add_option("offset", arguments->offset, "Where on the device, for example 16M")
        ->required();
    locate->add_option("length", arguments->length, "How many bytes")->capture_default_str();
    locate
        ->add_option("--by", arguments->by,
                     "rmap: the reverse map; inodes: a walk over every file; pages: the page "
                     "tables of every process, which name who maps what of it now")
        ->check(CLI::IsMember({"rmap", "inodes", "pages"}))
        ->capture_default_str();
}

}  // namespace

void add_view_commands(CLI::App& app, Context& context) {
    struct Arguments {
        std::string path;
        std::uint64_t after = 0;
        bool follow = false;
    };
    auto arguments = std::make_shared<Arguments>();
    add_locate_command(app, context);

    CLI::App* maps = add_command(
        app, context, "maps", "Show who maps what, down to device ranges",
        "  refault maps\n  refault maps /state", [&context, arguments] {
            context.finish(
                context.client().get(arguments->path.empty()
                                         ? "/v1/maps"
                                         : "/v1/maps?path=" + url_encode(arguments->path)),
                show_maps);
        });
    maps->add_option("path", arguments->path, "Only mappings of this file");

    add_command(
        app, context, "sessions", "List the connected programs", "  refault sessions",
        [&context] { context.finish(context.client().get("/v1/sessions"), show_sessions); });

    CLI::App* events = add_command(
        app, context, "events", "Show what has happened",
        "  refault events -f\n  refault events --after 120 --json", [&context, arguments] {
            if (arguments->follow) {
                auto done = context.client().follow_events(
                    arguments->after,
                    [&](const Json& event) { return show_event(event, context.json); });
                if (!done) context.fail(done.error());
                return;
            }
            auto list =
                context.client().get("/v1/events/list?after=" + std::to_string(arguments->after));
            if (!list) return context.fail(list.error());
            for (const auto& event : (*list)["events"])
                if (!show_event(event, context.json)) return;
        });
    events->add_flag("-f,--follow", arguments->follow, "Go on as things happen");
    events->add_option("--after", arguments->after, "Only events behind this number");
}

void add_demo_commands(CLI::App& app, Context& context) {
    auto options = std::make_shared<DemoOptions>();
    auto size = std::make_shared<std::string>("256M");
    CLI::App* demo =
        add_command(app, context, "demo",
                    "Pull a device from under four running programs, tear out another, do the same "
                    "to a database, "
                    "and check everything",
                    "  refault demo\n  refault demo --json --device-size 1G\n"
                    "The database is one of the packaged sqlite3 on the pool's mount; that act is "
                    "left out where "
                    "there is no\nsqlite3, no /dev/fuse or, for an ordinary user, no fusermount3.",
                    [&context, options, size] {
                        auto bytes = base::parse_size(*size);
                        if (!bytes) return context.fail(bytes.error(), kWrongUsage);
                        options->device_bytes = *bytes;
                        options->json = context.json;
                        context.status = run_demo(*options);
                    });
    demo->add_option("--seconds", options->seconds,
                     "How long the programs run before and after a device goes")
        ->capture_default_str();
    demo->add_option("--device-size", *size, "Of each device")->capture_default_str();
    // Its client processes.
    auto words = std::make_shared<std::vector<std::string>>();
    CLI::App* client = app.add_subcommand("demo-client", "")->group("");
    client->add_option("words", *words);
    client->callback([&context, words] { context.status = run_demo_client(*words); });
}

}  // namespace refault::cli
