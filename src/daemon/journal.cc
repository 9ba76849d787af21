// By libsystemd.
#include "daemon/journal.h"

#define SD_JOURNAL_SUPPRESS_LOCATION  // the line in this file says nothing
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <atomic>
#include <cctype>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/thread.h"

namespace refault::daemon {

namespace {

constexpr std::chrono::milliseconds kStopStep{200};
constexpr std::size_t kBatch = 64;

const char* priority(base::LogLevel level) {
    switch (level) {
        case base::LogLevel::Error:
            return "PRIORITY=3";
        case base::LogLevel::Warning:
            return "PRIORITY=4";
        case base::LogLevel::Info:
            break;
    }
    return "PRIORITY=6";
}

// What somebody should look at.
base::LogLevel level_of(const std::string& kind) {
    for (const auto* bad : {"metadata-lost", "failure-not-handled", "file-range-lost"})
        if (kind == bad) return base::LogLevel::Error;
    for (const auto* odd : {"device-lost", "device-unproven", "removal-failed", "failure-noticed",
                            "copy-may-be-older", "session-refused", "process-signalled"})
        if (kind == odd) return base::LogLevel::Warning;
    return base::LogLevel::Info;
}

std::string field_name(const std::string& name) {
    std::string field = "REFAULT_";
    for (const char c : name)
        field += std::isalnum(static_cast<unsigned char>(c)) != 0
                     ? static_cast<char>(std::toupper(static_cast<unsigned char>(c)))
                     : '_';
    return field;
}

std::string text_of(const nlohmann::json& value) {
    return value.is_string() ? value.get<std::string>()
                             : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool send(const std::vector<std::string>& fields) noexcept {
    std::vector<iovec> parts;
    for (const auto& field : fields)
        parts.push_back({const_cast<char*>(field.data()), field.size()});
    return sd_journal_sendv(parts.data(), static_cast<int>(parts.size())) == 0;
}

bool write_line(base::LogLevel level, std::string_view text) noexcept {
    return send(journal_fields(level, text));
}

bool is_stderr_journal() {
    return is_journal_stream(STDERR_FILENO, std::getenv("JOURNAL_STREAM"));
}

}  // namespace

bool is_journal_stream(int fd, const char* journal_stream) noexcept {
    struct stat status {};
    if (journal_stream == nullptr || ::fstat(fd, &status) != 0) return false;
    return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino) == journal_stream;
}

std::vector<std::string> journal_fields(base::LogLevel level, std::string_view text) {
    return {"MESSAGE=" + std::string(text), priority(level), "SYSLOG_IDENTIFIER=refaultd"};
}

std::vector<std::string> journal_fields(const EventLog::Numbered& event) {
    const auto& kind = event.event.kind;
    std::string message = kind;
    std::vector<std::string> own{"REFAULT_EVENT=" + kind,
                                 "REFAULT_SEQ=" + std::to_string(event.sequence)};
    const auto json = to_json(event);
    for (const auto& [name, unused] : event.event.fields) {
        const auto& value = json[name];
        message += " " + name + "=" + text_of(value);
        if (!value.is_array()) {
            own.push_back(field_name(name) + "=" + text_of(value));
            continue;
        }
        for (const auto& each : value) own.push_back(field_name(name) + "=" + text_of(each));
    }
    auto fields = journal_fields(level_of(kind), message);
    fields.insert(fields.end(), own.begin(), own.end());
    return fields;
}

void log_to_journal() {
    if (is_stderr_journal()) base::set_log_writer(write_line);
}

class JournalFollower {
  public:
    explicit JournalFollower(EventLog& events)
        : events_(events), thread_("journal", [this] { follow(); }) {}
    ~JournalFollower() {
        is_ending_.store(true);
        thread_.join();
    }
    JournalFollower(const JournalFollower&) = delete;
    JournalFollower& operator=(const JournalFollower&) = delete;

  private:
    // What was published before the end is sent before the end.
    void follow() {
        for (std::uint64_t sent = 0;;) {
            const bool is_last = is_ending_.load();
            for (auto found = events_.events_after(sent, kBatch); !found.empty();
                 found = events_.events_after(sent, kBatch))
                for (const auto& event : found) {
                    (void)send(journal_fields(event));
                    sent = event.sequence;
                }
            if (is_last) return;
            events_.wait_for_event(sent, kStopStep);
        }
    }

    EventLog& events_;
    std::atomic<bool> is_ending_{false};
    base::NamedThread thread_;
};

void EndFollower::operator()(JournalFollower* follower) const {
    delete follower;
}

std::unique_ptr<JournalFollower, EndFollower> follow_in_journal(EventLog& events) {
    if (!is_stderr_journal()) return {};
    return std::unique_ptr<JournalFollower, EndFollower>(new JournalFollower(events));
}

void tell_manager(const std::string& state) {
    (void)sd_notify(/*unset_environment=*/0, state.c_str());
}

}  // namespace refault::daemon
