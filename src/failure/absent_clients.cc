// Looking for those that were there before us.
#include "failure/absent_clients.h"

#include <algorithm>
#include <chrono>

#include "sys/process.h"
#include "wire/message.h"

namespace refault::failure {

using base::Code;
using base::Error;
using base::MutexLock;

namespace {

constexpr std::chrono::milliseconds kLookAgain{20};

// The addresses that a process has registered here, with the room for the copies behind them.
base::RangeSet addresses_of(pid_t pid, const session::Registry& registry) {
    base::RangeSet known;
    for (const auto& mapping : registry.mappings()) {
        if (mapping.pid != pid) continue;
        known.add(base::FileRange::of_length(
            mapping.addresses.begin(),
            wire::reserved_bytes(mapping.addresses.length(), mapping.access)));
    }
    return known;
}

}  // namespace

AbsentClients::AbsentClients(std::vector<SegmentFiles> segments, std::set<pid_t> pids,
                             const session::Registry& registry)
    : segments_(std::move(segments)), registry_(registry), pids_(std::move(pids)) {}

bool AbsentClients::is_absent(pid_t pid) const {
    const auto maps = sys::read_process_maps(pid);
    if (!maps) return maps.error().code() != Code::Gone;
    const auto known = addresses_of(pid, registry_);
    for (const auto& files : segments_) {
        const SegmentMatcher matcher(files);
        for (const auto& mapped : matcher.mappings_of_segments(*maps, "/proc")) {
            const auto& at = mapped.entry.addresses;
            if (!known.gaps(base::FileRange(at.begin(), at.end())).empty()) return true;
        }
    }
    return false;
}

Status AbsentClients::check() {
    MutexLock lock(mutex_);
    std::erase_if(pids_, [this](pid_t pid) { return !is_absent(pid); });
    if (pids_.empty()) return {};
    const auto first = *pids_.begin();
    return Error(Code::Busy,
                 "pid " + std::to_string(first) + " (" + sys::command_of(first) +
                     ") has memory of this pool mapped since an earlier daemon and has "
                     "not come back" +
                     (pids_.size() > 1 ? ", and " + std::to_string(pids_.size() - 1) + " more"
                                       : std::string()) +
                     "; let it go on, or end it");
}

void AbsentClients::when_all_are_back(std::function<void()> all_back) {
    if (check()) return all_back();
    thread_ = base::NamedThread("absent-clients", [this, act = std::move(all_back)] { run(act); });
}

void AbsentClients::run(const std::function<void()>& all_back) {
    while (!check()) {
        MutexLock lock(mutex_);
        if (!must_stop_)
            (void)changed_.wait_until(mutex_, std::chrono::steady_clock::now() + kLookAgain);
        if (must_stop_) return;
    }
    all_back();
}

void AbsentClients::stop() {
    {
        MutexLock lock(mutex_);
        must_stop_ = true;
        changed_.notify_all();
    }
    thread_.join();
}

}  // namespace refault::failure
