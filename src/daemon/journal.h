// The daemon's log where stderr goes to journald: lines with their priority, events with their
// fields, so that `journalctl REFAULT_DEVICE=a` finds what happened to a device. Elsewhere lines
// go to stderr as they are, and events are in the control API alone. Also tells a service manager
// how far the daemon is. Called by main.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "daemon/event_log.h"

namespace refault::daemon {

// True when $JOURNAL_STREAM says that this descriptor is a stream of the journal: the variable
// stays when somebody below has sent stderr elsewhere.
bool is_journal_stream(int fd, const char* journal_stream) noexcept;

// "NAME=value" as sd-journal takes them. An event's own fields are REFAULT_ and their name in
// capitals; one with several values stands there for each.
std::vector<std::string> journal_fields(base::LogLevel level, std::string_view text);
std::vector<std::string> journal_fields(const EventLog::Numbered& event);

// From here on lines go to the journal, if stderr does. Before there are other threads.
void log_to_journal();

// Sends events to the journal, if stderr goes there, until it is destroyed; its thread is
// "journal". Who publishes an event never waits for journald.
class JournalFollower;
struct EndFollower {
    void operator()(JournalFollower* follower) const;
};
std::unique_ptr<JournalFollower, EndFollower> follow_in_journal(EventLog& events);

// sd_notify(3): nothing where no service manager listens.
void tell_manager(const std::string& state);

}  // namespace refault::daemon
