// refaultd: options, start, wait for a signal, clean end.
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "base/log.h"
#include "base/version.h"
#include "daemon/capabilities.h"
#include "daemon/config_file.h"
#include "daemon/control_api.h"
#include "daemon/control_options.h"
#include "daemon/control_server.h"
#include "daemon/event_log.h"
#include "daemon/hand_over.h"
#include "daemon/journal.h"
#include "daemon/run_dir.h"
#include "daemon/syscall_filter.h"
#include "sys/group.h"
#include "sys/privileges.h"
#include "sys/userfaultfd.h"

namespace {

using refault::base::Error;
using refault::base::log_line;
using refault::base::LogLevel;
using refault::base::Result;
using refault::base::Status;
using refault::base::UniqueFd;
using refault::daemon::ControlApi;
using refault::daemon::ControlServer;
using refault::daemon::HandOver;
using refault::daemon::Successor;
using refault::daemon::UpgradeDesk;

struct Options {
    std::string run_dir;
    std::string create_name;
    std::vector<std::string> devices;
    std::vector<std::string> open;
    std::string session_mode = "0666";
    std::string control_mode = "0600";
    std::string seccomp = "auto";
    bool has_fault_points = false;
    int take_over = -1;  // descriptor
    std::vector<std::string> arguments;
    refault::session::Limits limits;
    refault::daemon::ControlLimits control_limits;
    refault::daemon::RightsOptions rights;
};

// Segment descriptors and sessions take many descriptors; the soft limit is a leftover from
// select(2).
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

// There are a hundred threads and more, most of them idle. By itself the C library gives them eight
// heaps a processor, and each keeps what was freed in it: the daemon would grow for days.
void share_heaps() {
    (void)::mallopt(M_ARENA_MAX, static_cast<int>(std::max(2L, ::sysconf(_SC_NPROCESSORS_ONLN))));
}

constexpr timespec kTrimInterval{10, 0};

// What is freed between things that live stays with the process otherwise (malloc_trim(3)): half of
// it after some hours of devices that come and go.
void give_free_memory_back() {
    (void)::malloc_trim(0);
}

int fail(const Error& error) {
    std::fprintf(stderr, "refaultd: %s\n", error.message().c_str());
    return 1;
}

// Before there are threads. As an ordinary user the filter would keep fusermount3, which is
// set-user-id, from mounting: there it is only on request.
Status drop_rights(const Options& options) {
    RETURN_IF_ERROR(refault::daemon::drop_capabilities());
    if (options.seccomp == "off" || (options.seccomp == "auto" && ::geteuid() != 0)) return {};
    // That of the program before holds for this one as well, and another could only be stricter.
    if (const auto has = refault::sys::read_privileges(); has && has->seccomp_mode != 0) return {};
    const auto installed = refault::daemon::install_syscall_filter(
        {.allows_exec = options.seccomp != "strict",
         .allows_internet = !options.rights.tcp_address.empty()});
    if (installed || options.seccomp != "auto") return installed;
    refault::base::log_line(LogLevel::Warning,
                            "goes on without a filter: " + installed.error().message());
    return {};
}

// Signals are taken by the main thread alone; SIGUSR2 is its own, for a wish at the desk.
sigset_t block_signals() {
    sigset_t signals;
    ::sigemptyset(&signals);
    for (const int signal_no : {SIGINT, SIGTERM, SIGHUP, SIGUSR2}) ::sigaddset(&signals, signal_no);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    return signals;
}

// The pool that the options name, or that of the daemon before.
Status open_pool(const Options& options, HandOver* handed_over, ControlApi& api) {
    if (handed_over != nullptr) return api.take_over(*handed_over);
    if (!options.create_name.empty()) return api.create_pool(options.create_name, options.devices);
    if (!options.open.empty()) return api.open_pool(options.open, /*is_degraded=*/false);
    return {};
}

// Returns only when nothing was given away yet; from there on a failure ends the daemon, and its
// clients wait for the next.
Error upgrade(const Successor& successor, std::vector<std::string> arguments, UniqueFd& run_dir,
              ControlApi& api, std::unique_ptr<ControlServer>& control) {
    if (const auto begun = api.begin_hand_over(); !begun) return begun.error();
    log_line(LogLevel::Info, "replaced by " + successor.path + " " + successor.version);
    control.reset();
    auto handed_over = api.hand_over();
    if (!handed_over) std::_Exit(fail(handed_over.error()));
    handed_over->run_dir = std::move(run_dir);
    auto file = refault::daemon::write_hand_over(std::move(*handed_over));
    if (!file) std::_Exit(fail(file.error()));
    arguments[0] = successor.path;
    arguments.insert(arguments.end(), {"--take-over", std::to_string(file->get())});
    const auto failed = refault::daemon::execute(successor.path, arguments);
    log_line(LogLevel::Error, failed.message() + "; the program of before goes on");
    std::_Exit(fail(refault::daemon::execute("/proc/self/exe", arguments)));
}

// Until the daemon is to end.
void wait_for_the_end(const sigset_t& signals, UpgradeDesk& desk,
                      const std::function<Error(const Successor&)>& upgrade) {
    for (;;) {
        const int signal_no = ::sigtimedwait(&signals, nullptr, &kTrimInterval);
        if (signal_no < 0) {
            give_free_memory_back();
            continue;
        }
        if (signal_no != SIGUSR2) return;
        const auto wish = desk.take();
        if (!wish) continue;
        const auto failed = upgrade(*wish);
        desk.refuse(failed);
        log_line(LogLevel::Warning, "not replaced: " + failed.message());
    }
}

int run(const Options& options) {
    refault::daemon::log_to_journal();
    // All threads inherit the mask.
    const auto signals = block_signals();
    share_heaps();
    raise_descriptor_limit();
    std::optional<HandOver> handed_over;
    if (options.take_over >= 0) {
        auto read = refault::daemon::read_hand_over(options.take_over);
        if (!read) return fail(read.error());
        handed_over = std::move(*read);
    }
    auto run_dir = handed_over ? Result<UniqueFd>(std::move(handed_over->run_dir))
                               : refault::daemon::take_run_dir(options.run_dir);
    if (!run_dir) return fail(run_dir.error());

    if (!options.rights.changing_group.empty())
        if (auto joined = refault::sys::join_group(options.rights.changing_group); !joined)
            return fail(joined.error());
    const auto ticket_key = refault::daemon::take_ticket_key(run_dir->get());
    if (!ticket_key) return fail(ticket_key.error());

    if (auto dropped = drop_rights(options); !dropped) return fail(dropped.error());

    refault::daemon::EventLog events;
    if (handed_over) events.go_on_after(handed_over->last_event);
    refault::daemon::PoolOptions pool;
    pool.run_dir = options.run_dir;
    pool.server.socket_path = options.run_dir + "/session.sock";
    pool.server.socket_mode =
        static_cast<std::uint32_t>(std::stoul(options.session_mode, nullptr, 8));
    pool.server.ticket_key = *ticket_key;
    pool.server.limits = refault::daemon::limits_in_force(options.limits);
    auto rights = refault::daemon::take_rights(options.rights);
    if (!rights) return fail(rights.error());
    using Debugging = ControlApi::Debugging;
    UpgradeDesk desk([] { (void)::kill(::getpid(), SIGUSR2); });
    ControlApi api(events, pool, options.has_fault_points ? Debugging::FaultPoints : Debugging::Off,
                   &desk);
    api.set_limits(refault::daemon::to_json(pool.server.limits, options.control_limits));
    auto control = std::make_unique<ControlServer>(
        api, refault::daemon::ControlOptions{.socket_path = options.run_dir + "/control.sock",
                                             .socket_mode = static_cast<std::uint32_t>(
                                                 std::stoul(options.control_mode, nullptr, 8)),
                                             .limits = options.control_limits,
                                             .rights = *rights,
                                             .tcp_address = options.rights.tcp_address});
    if (auto started = control->start(); !started) return fail(started.error());
    if (auto opened = open_pool(options, handed_over ? &*handed_over : nullptr, api); !opened)
        return fail(opened.error());
    if (auto probe = refault::sys::create_userfaultfd(); !probe)
        log_line(LogLevel::Warning, probe.error().message());
    if (!control->tcp_address().empty())
        std::printf("refaultd: control API by TCP at %s\n", control->tcp_address().c_str());
    const auto journal = refault::daemon::follow_in_journal(events);
    std::printf("refaultd: ready at %s\n", options.run_dir.c_str());
    std::fflush(stdout);
    refault::daemon::tell_manager("READY=1\nSTATUS=Ready at " + options.run_dir);

    wait_for_the_end(signals, desk, [&](const Successor& successor) {
        return upgrade(successor, options.arguments, *run_dir, api, control);
    });
    refault::daemon::tell_manager("STOPPING=1\nSTATUS=Closing the pool");
    log_line(LogLevel::Info, "ending");
    refault::base::discard(api.close_pool(), "there may be none");
    return 0;
}

// What an upgraded daemon is started with: the same, but for what it takes over.
std::vector<std::string> arguments_of(int argc, char** argv) {
    std::vector<std::string> arguments;
    for (int i = 0; i < argc; ++i) {
        if (std::string_view(argv[i]) == "--take-over")
            ++i;
        else
            arguments.emplace_back(argv[i]);
    }
    return arguments;
}

// One line. What the configuration's says is whole already.
Error usage_error(const CLI::App& app, const CLI::ParseError& error) {
    using refault::base::Code;
    if (dynamic_cast<const CLI::FileError*>(&error) != nullptr)
        return Error(Code::Invalid, std::string(error.what()) + "; name another with --config");
    if (dynamic_cast<const CLI::ConfigError*>(&error) != nullptr)
        return Error(Code::Invalid, error.what());
    const auto unknown = app.remaining();
    const std::string reason =
        unknown.empty() ? error.what() : "'" + unknown.front() + "' is not understood";
    return Error(Code::Invalid, reason + "; see: refaultd --help");
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    options.run_dir = refault::daemon::default_run_dir();
    CLI::App app(
        "refaultd: joins memory devices into a pool of mapped files, and lets any device be taken "
        "away.\n\n"
        "Examples:\n"
        "  refaultd                                            then: refault pool create ...\n"
        "  refaultd --create scratch --device a=ram:1G --device b=ram:1G\n"
        "  refaultd --open dir:/mnt/pmem0 --open dir:/mnt/pmem1\n"
        "  refaultd --config /etc/refault/refaultd.conf        see refaultd.conf(5)\n"
        "  refaultd --listen-tcp 127.0.0.1:7070 --token-file /root/refault.token");
    app.set_version_flag("--version", std::string("refaultd ") + refault::base::kVersion);
    const auto octal = CLI::Validator(
        [](std::string& text) {
            return !text.empty() && text.size() <= 5 &&
                           text.find_first_not_of("01234567") == text.npos
                       ? std::string()
                       : "not an octal mode: " + text;
        },
        "OCTAL");
    app.add_option("--run-dir", options.run_dir,
                   "Where control.sock and session.sock are made (or REFAULT_RUN_DIR)")
        ->capture_default_str();
    auto* create = app.add_option("--create", options.create_name, "Make a new pool of this name");
    auto* device = app.add_option("--device", options.devices,
                                  "With --create: NAME=ram:SIZE or NAME=dir:PATH");
    auto* open = app.add_option("--open", options.open, "Open the pool of these devices: dir:PATH");
    create->needs(device);
    device->needs(create);
    open->excludes(create);
    app.add_option("--session-mode", options.session_mode, "Permissions of the session socket")
        ->check(octal)
        ->capture_default_str();
    app.add_option("--control-mode", options.control_mode, "Permissions of the control socket")
        ->check(octal)
        ->capture_default_str();
    refault::daemon::add_limit_options(app, options.limits, options.control_limits);
    refault::daemon::add_rights_options(app, options.rights);
    app.add_flag("--fault-points", options.has_fault_points,
                 "For tests: the control API can make steps of the failure pipeline fail");
    app.add_option("--take-over", options.take_over)->group("");
    bool is_asked_for_format = false;
    app.add_flag("--hand-over-format", is_asked_for_format)->group("");
    app.add_option("--seccomp", options.seccomp,
                   "Filter the daemon's system calls: auto (root's daemon), on, off, or strict, "
                   "which keeps it from being upgraded, too")
        ->check(CLI::IsMember({"auto", "on", "strict", "off"}))
        ->capture_default_str();
    refault::daemon::add_config_file(app);
    options.arguments = arguments_of(argc, argv);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0) return app.exit(error);
        fail(usage_error(app, error));
        return 2;
    }
    if (is_asked_for_format) {
        std::printf("{\"version\": \"%s\", \"hand_over_format\": %d}\n", refault::base::kVersion,
                    refault::daemon::kHandOverFormat);
        return 0;
    }
    return run(options);
}
