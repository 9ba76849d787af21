// The table of limits, and the options of rights.
#include "daemon/control_options.h"

#include <sys/resource.h>

#include <vector>

#include "base/log.h"
#include "sys/group.h"

namespace refault::daemon {

using base::Code;
using base::Error;
using base::Result;

namespace {

struct Limit {
    const char* option;
    std::uint32_t* value;
    std::uint32_t least;
    std::uint32_t most;
    const char* help;
};

std::vector<Limit> table(session::Limits& session, ControlLimits& control) {
    return {
        {"--sessions-max", &session.sessions, 1, 65536, "Programs connected at once"},
        {"--sessions-per-user", &session.sessions_per_user, 1, 65536, "Of one user; root may more"},
        {"--files-per-session", &session.files_per_session, 1, 1u << 20,
         "Open files of one program"},
        {"--mappings-per-session", &session.mappings_per_session, 1, 1u << 20,
         "Mappings of one program"},
        {"--held-parts-per-session", &session.held_parts_per_session, 1024, 1u << 24,
         "Parts of mappings that are held back from one program"},
        {"--faults-per-session", &session.faults_per_session, 1, 65536,
         "Faults of one program without a verdict yet"},
        {"--unread-bytes", &session.unread_bytes, 16384, 1u << 20,
         "Unread by a program that asks for more places; then it is hung up on"},
        {"--hello-timeout", &session.hello_timeout_ms, 100, 600'000,
         "Milliseconds that a program may take to say who it is"},
        {"--reply-timeout", &session.reply_timeout_ms, 100, 600'000,
         "Milliseconds that a program may leave an answer unread"},
        {"--control-connections-max", &control.connections, 8, 4096,
         "Connections to the control API"},
        {"--control-connections-per-user", &control.connections_per_user, 1, 4096,
         "Of one user who may only look, and of all by TCP"},
        {"--control-followers-max", &control.followers, 2, ControlListener::kWorkers / 2,
         "Followers of events"},
        {"--control-request-timeout", &control.request_timeout_ms, 100, 600'000,
         "Milliseconds in which a request must be whole"},
        {"--control-answer-timeout", &control.answer_timeout_ms, 100, 600'000,
         "Milliseconds that a client may not read its answer"},
    };
}

}  // namespace

void add_limit_options(CLI::App& app, session::Limits& session, ControlLimits& control) {
    for (const auto& limit : table(session, control))
        app.add_option(limit.option, *limit.value, limit.help)
            ->check(CLI::Range(limit.least, limit.most))
            ->capture_default_str()
            ->group("Limits");
}

void add_rights_options(CLI::App& app, RightsOptions& options) {
    constexpr const char* kGroup = "Rights";
    app.add_option("--control-group", options.changing_group,
                   "Members may use the control API as the daemon's user may")
        ->group(kGroup);
    app.add_option("--listen-tcp", options.tcp_address,
                   "The control API at ADDRESS:PORT, too, for who has a token; unencrypted")
        ->group(kGroup);
    app.add_option("--token-file", options.token_file,
                   "With --listen-tcp: the token of who may change things; mode 0600")
        ->group(kGroup);
    app.add_option("--look-token-file", options.look_token_file,
                   "With --listen-tcp: the token of who may look; mode 0600")
        ->group(kGroup);
}

Result<ControlRights> take_rights(const RightsOptions& options) {
    ControlRights rights;
    if (!options.changing_group.empty()) {
        const auto group = sys::find_group(options.changing_group);
        if (!group) return group.error();
        rights.changing_group = *group;
    }
    if (options.tcp_address.empty() !=
        (options.token_file.empty() && options.look_token_file.empty()))
        return Error(Code::Invalid,
                     options.tcp_address.empty()
                         ? "a token file does nothing without --listen-tcp; leave it away"
                         : "--listen-tcp takes a token: give --token-file, too");
    for (const auto& [path, token] : {std::pair(&options.token_file, &rights.change_token),
                                      std::pair(&options.look_token_file, &rights.look_token)}) {
        if (path->empty()) continue;
        auto text = read_token(*path);
        if (!text) return text.error();
        *token = std::move(*text);
    }
    // Who was given it to look could change things.
    if (!rights.change_token.empty() && rights.change_token == rights.look_token)
        return Error(Code::Invalid,
                     "--token-file and --look-token-file have the same token; make another for who "
                     "may look: (umask 077; openssl rand -hex 32 > FILE)");
    return rights;
}

session::Limits limits_in_force(const session::Limits& session) {
    rlimit descriptors{};
    if (::getrlimit(RLIMIT_NOFILE, &descriptors) != 0) return session;
    const auto limits = session::within_descriptors(session, descriptors.rlim_cur);
    if (limits.sessions < session.sessions)
        base::log_line(base::LogLevel::Warning,
                       "no more than " + std::to_string(limits.sessions) +
                           " sessions, because of the limit of open files (" +
                           std::to_string(descriptors.rlim_cur) + "); raise ulimit -n");
    return limits;
}

nlohmann::json to_json(const session::Limits& session, const ControlLimits& control) {
    nlohmann::json json = nlohmann::json::object();
    auto own_session = session;
    auto own_control = control;
    // "--sessions-max" is "sessions_max".
    for (const auto& limit : table(own_session, own_control)) {
        std::string name(limit.option + 2);
        for (auto& letter : name)
            if (letter == '-') letter = '_';
        if (name.ends_with("timeout")) name += "_ms";
        json[name] = *limit.value;
    }
    return json;
}

}  // namespace refault::daemon
