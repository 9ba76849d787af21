// inotify and probing.
#include "failure/device_watch.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "base/log.h"
#include "sys/event_fd.h"

namespace refault::failure {

namespace {
constexpr std::uint32_t kEvents = IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF;
}

DeviceWatch::DeviceWatch(store::Store& store, Callback on_suspicion, Callback on_label_removed)
    : store_(store),
      on_suspicion_(std::move(on_suspicion)),
      on_label_removed_(std::move(on_label_removed)) {}

base::Status DeviceWatch::start() {
    inotify_ = base::UniqueFd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!inotify_) return base::sys_error("inotify_init");
    auto stop = sys::create_event();
    if (!stop) return stop.error();
    stop_event_ = std::move(*stop);
    thread_ = base::NamedThread("device-watch", [this] { run(); });
    return {};
}

DeviceWatch::~DeviceWatch() {
    if (stop_event_) sys::signal_event(stop_event_.get());
    thread_.join();
}

void DeviceWatch::run() {
    std::array<pollfd, 2> events{pollfd{stop_event_.get(), POLLIN, 0},
                                 pollfd{inotify_.get(), POLLIN, 0}};
    for (;;) {
        watch_new_devices();
        const int ready = ::poll(events.data(), events.size(), kInterval.count());
        if (events[0].revents != 0) return;
        if (ready > 0 && events[1].revents != 0) read_events();
        if (ready == 0) probe_all();
    }
}

void DeviceWatch::watch_new_devices() {
    for (const auto& usage : store_.usage()) {
        const bool is_known = std::any_of(watched_.begin(), watched_.end(),
                                          [&](const auto& one) { return one.second == usage.id; });
        auto device = store_.device(usage.id);
        if (is_known || !device) continue;
        const int watch =
            ::inotify_add_watch(inotify_.get(), (*device)->directory().c_str(), kEvents);
        if (watch >= 0) watched_[watch] = usage.id;
    }
}

// Segments come and go by our own doing, too: the examination tells.
void DeviceWatch::read_events() {
    alignas(inotify_event) std::array<char, 16384> buffer;
    std::set<base::DeviceId> suspects;
    for (;;) {
        const auto bytes = ::read(inotify_.get(), buffer.data(), buffer.size());
        if (bytes <= 0) break;
        for (long at = 0; at < bytes;) {
            const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
            at += static_cast<long>(sizeof(inotify_event) + event->len);
            const auto known = watched_.find(event->wd);
            if (known == watched_.end()) continue;
            // We replace the label as a whole and never remove it: somebody else has.
            if ((event->mask & IN_DELETE) != 0 && event->len > 0 &&
                std::string_view(event->name) == "label")
                on_label_removed_(known->second);
            suspects.insert(known->second);
            if ((event->mask & IN_IGNORED) != 0) watched_.erase(known);
        }
    }
    for (const auto device : suspects) on_suspicion_(device);
}

void DeviceWatch::probe_all() {
    for (const auto& usage : store_.usage()) {
        auto device = store_.device(usage.id);
        if (!device || usage.has_failed) continue;
        // Of what the store has given up nothing else tells that somebody had taken it.
        bool is_odd = !(*device)->is_reachable() || store_.misses_files(usage.id);
        for (const auto segment : store_.segments_in_use(usage.id)) {
            if (is_odd) break;
            is_odd = (*device)->probe_segment(segment).health != device::SegmentHealth::Whole;
        }
        if (is_odd) on_suspicion_(usage.id);
    }
}

}  // namespace refault::failure
