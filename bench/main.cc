// refault-bench: measures beside the alternative. Starts its own daemons and ends them.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "bench/harness.h"

namespace {

using namespace refault::bench;

struct ChildProgram {
    const char* name;
    int (*run)(const std::vector<std::string>&);
};
constexpr ChildProgram kChildren[] = {{"child-drain-writer", run_drain_writer},
                                      {"child-holder", run_holder},
                                      {"child-reader", run_reader},
                                      {"child-pmemobj", run_pmemobj},
                                      {"child-toucher", run_toucher}};

struct Bench {
    const char* name;
    const char* what;
    Status (*run)(const Options&);
    Options options;
};
Bench g_benches[] = {
    {"mapped",
     "a mapped pool file over a plain mmap on the same kind of tmpfs",
     run_mapped,
     {.runs = 15}},
    {"drain", "a live drain of 1 GiB over fallocate + memcpy", run_drain, {}},
    {"locate",
     "the reverse map among 10^3 to 10^6 extents, and beside the other two locators",
     run_locate,
     {}},
    {"prove", "a proof against the number of processes and mappings", run_prove, {}},
    {"revoke",
     "one page fails and is repaired, over a bare PUNCH_HOLE, at 10^3 to 10^6 inodes",
     run_revoke,
     {}},
    {"yank",
     "a device goes under 1, 8 and 64 processes, over a bare ftruncate",
     run_yank,
     {.runs = 11}},
    {"persist",
     "4 KiB and 1 MiB to two copies, over libpmemobj with a replica, and msync",
     run_persist,
     {}},
    {"refault",
     "the touch of a page whose place was taken away, over userfaultfd across processes",
     run_refault,
     {}},
    {"mount",
     "fio and many small files on the mount, over another FUSE filesystem, and a tmpfs",
     run_mount,
     {.runs = 3}}};

}  // namespace

int main(int argc, char** argv) {
    for (const auto& child : kChildren)
        if (argc >= 2 && std::string_view(argv[1]) == child.name)
            return child.run(std::vector<std::string>(argv + 2, argv + argc));
    CLI::App app(
        "refault-bench: measures Refault beside the alternative, in one run.\n\nExamples:\n"
        "  refault-bench drain\n  refault-bench mapped --runs 9 --json");
    app.require_subcommand(1);
    int status = 0;
    for (auto& bench : g_benches) {
        CLI::App* command = app.add_subcommand(bench.name, bench.what);
        command->add_flag("--json", bench.options.json, "Report in JSON");
        command->add_option("--runs", bench.options.runs, "Counted runs; medians are given")
            ->check(CLI::Range(1, 1000))
            ->capture_default_str();
        command->callback([&status, &bench] {
            if (auto done = bench.run(bench.options); !done) {
                std::fprintf(stderr, "refault-bench: %s: %s\n", bench.name,
                             done.error().message().c_str());
                status = 1;
            }
        });
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    return status;
}
