// Who maps them, and when that is nobody but us.
#include "failure/held_segments.h"

#include <algorithm>
#include <chrono>

#include "failure/proof.h"

namespace refault::failure {

using base::FileRange;
using base::MutexLock;
using std::chrono::milliseconds;

namespace {

// Each look reads the tables of all processes.
constexpr milliseconds kFirstPause{50};
constexpr milliseconds kPauseMax{30'000};

}  // namespace

HeldSegments::~HeldSegments() {
    {
        MutexLock lock(mutex_);
        must_stop_ = true;
        changed_.notify_all();
    }
    thread_.join();
}

void HeldSegments::set_aside(const device::Device& device) {
    auto target = proof_target(device);
    auto id = store_.find_device(device.name());
    if (!target || !id) return;
    const auto report = prove(*target);
    if (!report) return;
    Segments held;
    for (const auto& holder : report->holders)
        if (const auto segment = device::segment_of_path(holder.path)) held.insert(*segment);
    if (held.empty()) return;
    for (const auto segment : held) store_.set_held(*id, segment, true);
    events_.publish({"segments-held",
                     {{"device", device.name()},
                      {"segments", std::uint64_t(held.size())},
                      {"holder", report->summary()}}});
    held_.emplace(*id, std::move(held));
}

void HeldSegments::start(const session::Registry& registry) {
    if (held_.empty()) return;
    thread_ = base::NamedThread("held-segments", [this, &registry] { run(registry); });
}

void HeldSegments::run(const session::Registry& registry) {
    for (auto pause = kFirstPause; !held_.empty(); pause = std::min(2 * pause, kPauseMax)) {
        {
            MutexLock lock(mutex_);
            const auto until = std::chrono::steady_clock::now() + pause;
            while (!must_stop_ && std::chrono::steady_clock::now() < until)
                (void)changed_.wait_until(mutex_, until);
            if (must_stop_) return;
        }
        look(registry);
    }
}

void HeldSegments::look(const session::Registry& registry) {
    for (auto at = held_.begin(); at != held_.end();) {
        auto& [id, held] = *at;
        const auto device = store_.device(id);
        auto still = device ? still_held(**device, held, registry) : Segments();
        std::uint64_t freed = 0;
        for (const auto segment : held) {
            if (still.contains(segment)) continue;
            store_.set_held(id, segment, false);
            ++freed;
        }
        if (freed > 0 && device)
            events_.publish({"segments-given-back",
                             {{"device", (*device)->name()},
                              {"segments", freed},
                              {"held", std::uint64_t(still.size())}}});
        held = std::move(still);
        at = held.empty() ? held_.erase(at) : std::next(at);
    }
}

// The registry is asked first: what was placed there before the tables are read shows in them.
HeldSegments::Segments HeldSegments::still_held(const device::Device& device, const Segments& held,
                                                const session::Registry& registry) const {
    auto target = proof_target(device);
    if (!target) return held;
    std::map<pid_t, base::RangeSet> placed = registry.placed_addresses();
    const auto report = prove(*target);
    if (!report) return held;
    Segments still;
    for (const auto& holder : report->holders) {
        const auto segment = device::segment_of_path(holder.path);
        if (!segment || !held.contains(*segment)) continue;
        const FileRange at(holder.addresses.begin(), holder.addresses.end());
        if (holder.kind != Holder::Kind::Mapping || !placed[holder.pid].gaps(at).empty())
            still.insert(*segment);
    }
    // Into what was cut nothing is placed either.
    for (const auto segment : held)
        if (device.probe_segment(segment).health == device::SegmentHealth::Short)
            still.insert(segment);
    return still;
}

}  // namespace refault::failure
