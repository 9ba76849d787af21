// The daemon's events: numbered from 1, kept in memory (the newest kEventsKept), waited for by
// followers. Thread-safe; its lock is a leaf.
#pragma once

#include <chrono>
#include <deque>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "base/event.h"
#include "base/mutex.h"

namespace refault::daemon {

class EventLog final : public base::EventSink {
  public:
    static constexpr std::size_t kEventsKept = 10'000;

    struct Numbered {
        std::uint64_t sequence = 0;
        std::chrono::system_clock::time_point time;
        base::Event event;
    };

    // The numbers go on behind `last`: those of the daemon before.
    void go_on_after(std::uint64_t last);
    void publish(base::Event event) override;
    // Those behind `after`, oldest first, at most `limit`.
    std::vector<Numbered> events_after(std::uint64_t after, std::size_t limit) const;
    // Waits until there is one behind `after`, the time is over, or close().
    void wait_for_event(std::uint64_t after, std::chrono::milliseconds limit) const;
    std::uint64_t last_sequence() const;
    // Followers are let go: nobody waits any more.
    void close();

  private:
    mutable base::Mutex mutex_;
    mutable base::CondVar changed_;
    std::deque<Numbered> events_ GUARDED_BY(mutex_);
    std::uint64_t last_ GUARDED_BY(mutex_) = 0;
    bool is_closed_ GUARDED_BY(mutex_) = false;
};

// {"seq": 7, "time": "2031-05-01T12:00:00.123Z", "kind": "...", fields...}
nlohmann::json to_json(const EventLog::Numbered& event);

}  // namespace refault::daemon
