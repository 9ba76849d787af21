// Keeping and formatting events.
#include "daemon/event_log.h"

#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

namespace refault::daemon {

using base::MutexLock;
using std::chrono::steady_clock;

void EventLog::go_on_after(std::uint64_t last) {
    MutexLock lock(mutex_);
    last_ = last;
}

void EventLog::publish(base::Event event) {
    MutexLock lock(mutex_);
    events_.push_back({++last_, std::chrono::system_clock::now(), std::move(event)});
    if (events_.size() > kEventsKept) events_.pop_front();
    changed_.notify_all();
}

std::vector<EventLog::Numbered> EventLog::events_after(std::uint64_t after,
                                                       std::size_t limit) const {
    MutexLock lock(mutex_);
    std::vector<Numbered> found;
    if (events_.empty()) return found;
    const auto first = events_.front().sequence;
    for (auto i = after < first ? 0 : after - first + 1; i < events_.size() && found.size() < limit;
         ++i)
        found.push_back(events_[i]);
    return found;
}

void EventLog::wait_for_event(std::uint64_t after, std::chrono::milliseconds limit) const {
    MutexLock lock(mutex_);
    const auto deadline = steady_clock::now() + limit;
    while (last_ <= after && !is_closed_ && steady_clock::now() < deadline)
        (void)changed_.wait_until(mutex_, deadline);
}

std::uint64_t EventLog::last_sequence() const {
    MutexLock lock(mutex_);
    return last_;
}

void EventLog::close() {
    MutexLock lock(mutex_);
    is_closed_ = true;
    changed_.notify_all();
}

nlohmann::json to_json(const EventLog::Numbered& event) {
    const auto ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(event.time.time_since_epoch())
            .count();
    const std::time_t seconds = ms / 1000;
    std::tm calendar{};
    ::gmtime_r(&seconds, &calendar);
    char time[96];  // as wide as the compiler can imagine the numbers
    std::snprintf(time, sizeof time, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", calendar.tm_year + 1900,
                  calendar.tm_mon + 1, calendar.tm_mday, calendar.tm_hour, calendar.tm_min,
                  calendar.tm_sec, static_cast<int>(ms % 1000));
    nlohmann::json json = {{"seq", event.sequence}, {"time", time}, {"kind", event.event.kind}};
    for (const auto& [name, value] : event.event.fields)
        std::visit([&into = json[name]](const auto& v) { into = v; }, value);
    return json;
}

}  // namespace refault::daemon
