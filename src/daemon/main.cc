// refaultd: options, start, wait for a signal, clean end.
#include <signal.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "base/log.h"
#include "base/version.h"
#include "daemon/capabilities.h"
#include "daemon/config_file.h"
#include "daemon/control_api.h"
#include "daemon/control_server.h"
#include "daemon/event_log.h"
#include "daemon/journal.h"
#include "daemon/run_dir.h"
#include "daemon/syscall_filter.h"
#include "sys/group.h"
#include "sys/userfaultfd.h"

namespace {

using refault::base::Error;
using refault::base::LogLevel;
using refault::base::Status;

struct Options {
    std::string run_dir;
    std::string create_name;
    std::vector<std::string> devices;
    std::vector<std::string> open;
    std::string session_mode = "0666";
    std::string control_mode = "0600";
    std::string control_group;
    std::string seccomp = "auto";
    bool has_fault_points = false;
};

// Segment descriptors and sessions take many descriptors; the soft limit is a leftover from
// select(2).
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &limit);
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
    const auto installed = refault::daemon::install_syscall_filter();
    if (installed || options.seccomp == "on") return installed;
    refault::base::log_line(LogLevel::Warning,
                            "goes on without a filter: " + installed.error().message());
    return {};
}

int run(const Options& options) {
    refault::daemon::log_to_journal();
    // All threads inherit the mask: signals are taken here and nowhere else.
    sigset_t signals;
    ::sigemptyset(&signals);
    for (const int signal_no : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&signals, signal_no);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    auto run_dir = refault::daemon::take_run_dir(options.run_dir);
    if (!run_dir) return fail(run_dir.error());

    gid_t control_gid = 0;
    if (!options.control_group.empty()) {
        const auto group = refault::sys::join_group(options.control_group);
        if (!group) return fail(group.error());
        control_gid = *group;
    }
    const auto ticket_key = refault::daemon::take_ticket_key(run_dir->get());
    if (!ticket_key) return fail(ticket_key.error());

    if (auto dropped = drop_rights(options); !dropped) return fail(dropped.error());

    refault::daemon::EventLog events;
    refault::session::ServerOptions server;
    server.socket_path = options.run_dir + "/session.sock";
    server.socket_mode = static_cast<std::uint32_t>(std::stoul(options.session_mode, nullptr, 8));
    server.ticket_key = *ticket_key;
    using Debugging = refault::daemon::ControlApi::Debugging;
    refault::daemon::ControlApi api(
        events, server, options.has_fault_points ? Debugging::FaultPoints : Debugging::Off);
    refault::daemon::ControlServer control(
        api, options.run_dir + "/control.sock",
        static_cast<std::uint32_t>(std::stoul(options.control_mode, nullptr, 8)));
    if (auto started = control.start(); !started) return fail(started.error());
    if (!options.control_group.empty())
        if (auto given = refault::sys::set_group(options.run_dir + "/control.sock", control_gid);
            !given)
            return fail(given.error());
    if (!options.create_name.empty())
        if (auto made = api.create_pool(options.create_name, options.devices); !made)
            return fail(made.error());
    if (!options.open.empty())
        if (auto opened = api.open_pool(options.open, /*is_degraded=*/false); !opened)
            return fail(opened.error());
    if (auto probe = refault::sys::create_userfaultfd(); !probe)
        refault::base::log_line(LogLevel::Warning, probe.error().message());
    const auto journal = refault::daemon::follow_in_journal(events);
    std::printf("refaultd: ready at %s\n", options.run_dir.c_str());
    std::fflush(stdout);
    refault::daemon::tell_manager("READY=1\nSTATUS=Ready at " + options.run_dir);

    int signal_no = 0;
    while (::sigwait(&signals, &signal_no) != 0) {
    }
    refault::daemon::tell_manager("STOPPING=1\nSTATUS=Closing the pool");
    refault::base::log_line(LogLevel::Info, "ending");
    refault::base::discard(api.close_pool(), "there may be none");
    return 0;
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
        "  refaultd --open dir:/mnt/pmem0 --open dir:/mnt/pmem1");
    app.set_version_flag("--version", std::string("refaultd ") + refault::base::kVersion);
    const auto octal = CLI::Validator(
        [](std::string& text) {
            return !text.empty() && text.size() <= 5 &&
                           text.find_first_not_of("01234567") == text.npos
                       ? std::string()
                       : "not an octal mode: " + text;
        },
        "OCTAL");
    app.add_option("--run-dir", options.run_dir, "Where control.sock and session.sock are made")
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
    app.add_option("--control-group", options.control_group, "Group of the control socket");
    app.add_option("--seccomp", options.seccomp,
                   "Filter the daemon's system calls: auto (root's daemon), on, off")
        ->check(CLI::IsMember({"auto", "on", "off"}))
        ->capture_default_str();
    app.add_flag("--fault-points", options.has_fault_points,
                 "For tests: the control API can make steps of the failure pipeline fail");
    refault::daemon::add_config_file(app);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    return run(options);
}
