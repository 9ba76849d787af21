// Events: one for every change of state that an operator may want to know of. Layers below the
// daemon publish through EventSink; the daemon numbers, keeps and streams them. The kinds and their
// fields are listed in docs/control-api.md.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace refault::base {

using EventValue = std::variant<std::string, std::uint64_t, double, bool, std::vector<std::string>>;

struct Event {
    std::string kind;  // "device-leaving", "move", "session-opened" ...
    std::vector<std::pair<std::string, EventValue>> fields;
};

class EventSink {
  public:
    virtual ~EventSink() = default;
    // Any thread, any locks held: takes only a leaf lock and never waits.
    virtual void publish(Event event) = 0;
};

}  // namespace refault::base
