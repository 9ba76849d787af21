// What all commands share: where the daemon is, how answers and errors are shown.
// Exit statuses: 0 done, 1 failed, 2 wrong usage, 3 a pull has ended but the device is not safe to
// pull.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cli/control_client.h"

namespace refault::cli {

inline constexpr int kFailed = 1;
inline constexpr int kWrongUsage = 2;
inline constexpr int kNotSafe = 3;

struct Context {
    std::string run_dir;
    std::string socket;   // empty: control.sock in run_dir
    std::string connect;  // instead: by TCP
    std::string token_file;
    bool json = false;
    int status = 0;

    ControlClient client() const {
        if (!connect.empty()) return ControlClient::by_tcp(connect, token_file);
        return ControlClient(socket.empty() ? run_dir + "/control.sock" : socket);
    }
    // "refault: REASON" on stderr (or {"error": ...} with --json); sets the exit status.
    void fail(const base::Error& error, int exit_status = kFailed);
    // The answer as JSON with --json, else what `show` prints. An error is shown by fail().
    void finish(const base::Result<Json>& answer, const std::function<void(const Json&)>& show);
};

// A name from the pool as it may go to a terminal: control characters become \xNN.
std::string printable(std::string_view text);
// As the daemon knows it: absolute, and without symbolic links where it is there.
std::string absolute_path(const std::string& path);
// "path (also path, path)": every path of what the answer is about.
std::string all_paths(const Json& answer);

// /run/refault for root, else $XDG_RUNTIME_DIR/refault, else /tmp/refault-UID.
std::string default_run_dir();

void add_pool_commands(CLI::App& app, Context& context);
void add_daemon_commands(CLI::App& app, Context& context);
void add_device_commands(CLI::App& app, Context& context);
void add_detach_command(CLI::App& device, Context& context);
void add_pull_commands(CLI::App& device, Context& context);
void add_file_commands(CLI::App& app, Context& context);
void add_fail_command(CLI::App& app, Context& context);
void add_loss_commands(CLI::App& app, Context& context);
void add_mount_commands(CLI::App& app, Context& context);
void add_scrub_command(CLI::App& pool, Context& context);
void add_view_commands(CLI::App& app, Context& context);
void add_doctor_command(CLI::App& app, Context& context);
void add_demo_commands(CLI::App& app, Context& context);
void add_reference_commands(CLI::App& app);

// A subcommand with --json, --help with examples, and an action.
CLI::App* add_command(CLI::App& parent, Context& context, const std::string& name,
                      const std::string& description, const std::string& examples,
                      std::function<void()> action);

}  // namespace refault::cli
