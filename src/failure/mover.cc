// What outlives a batch: old space that somebody still maps, copies that somebody has yet to map.
#include "failure/mover.h"

#include <algorithm>
#include <functional>

#include "base/log.h"

namespace refault::failure {

using base::Code;
using base::Error;
using base::InodeNo;
using session::FenceTarget;
using session::Registry;
using store::Move;

namespace {
constexpr std::uint64_t kPieceBytesMax = 8ull << 20;
}  // namespace

Mover::Mover(store::Store& store, session::Registry& registry, session::WriteBarrier& barrier,
             base::EventSink& events, FaultPoints& faults)
    : store_(store), registry_(registry), barrier_(barrier), events_(events), faults_(faults) {}

// Nobody waits for a daemon that is ending.
Mover::~Mover() {
    for (const auto& one : unopened_) barrier_.open(one.targets);
}

std::unique_ptr<std::vector<std::uint8_t>> Mover::take_buffer() {
    base::MutexLock lock(mutex_);
    if (buffers_.empty())
        return std::make_unique<std::vector<std::uint8_t>>(device::kCopyBufferBytes);
    auto buffer = std::move(buffers_.back());
    buffers_.pop_back();
    return buffer;
}

void Mover::give_back_buffer(std::unique_ptr<std::vector<std::uint8_t>> buffer) {
    base::MutexLock lock(mutex_);
    buffers_.push_back(std::move(buffer));
}

std::size_t Mover::release_if(const std::function<bool(const Move&)>& is_free) {
    std::vector<Move> free;
    {
        base::MutexLock lock(mutex_);
        const auto first =
            std::stable_partition(unreleased_.begin(), unreleased_.end(), std::not_fn(is_free));
        free.assign(first, unreleased_.end());
        unreleased_.erase(first, unreleased_.end());
    }
    if (free.empty()) return 0;
    auto released = faults_.pass(FaultPoint::MoveRelease);
    if (released) released = store_.release_moved(free);
    if (!released) {
        base::log_line(base::LogLevel::Warning,
                       "old space is released later: " + released.error().message());
        base::MutexLock lock(mutex_);
        unreleased_.insert(unreleased_.end(), free.begin(), free.end());
        return 0;
    }
    return free.size();
}

void Mover::release_later(std::vector<Move> dropped) {
    base::MutexLock lock(mutex_);
    unreleased_.insert(unreleased_.end(), dropped.begin(), dropped.end());
}

bool Mover::open_those_placed(Unopened& unopened) {
    auto& waiting = unopened.targets;
    const auto first =
        std::stable_partition(waiting.begin(), waiting.end(), [&](const FenceTarget& target) {
            return !registry_.is_placed(unopened.inode, unopened.range, target.session->id());
        });
    barrier_.open(std::span(first, waiting.end()));
    waiting.erase(first, waiting.end());
    if (!waiting.empty()) return false;
    registry_.release_stores(unopened.inode, unopened.range);
    return true;
}

bool Mover::open_placed() {
    base::MutexLock lock(mutex_);
    std::erase_if(unopened_, [&](Unopened& one) { return open_those_placed(one); });
    return !unopened_.empty();
}

void Mover::release_placed() {
    (void)release_if([&](const Move& move) {
        return registry_.is_placed(move.from.inode, move.from.file_range());
    });
}

void Mover::retire(const Move& dropped) {
    base::MutexLock lock(mutex_);
    retired_.push_back(dropped);
}

std::size_t Mover::release_unmapped(base::DeviceId device) {
    {
        base::MutexLock lock(mutex_);
        const auto is_there = [&](const Move& move) { return move.from.device == device; };
        std::copy_if(retired_.begin(), retired_.end(), std::back_inserter(unreleased_), is_there);
        std::erase_if(retired_, is_there);
    }
    return release_if([&](const Move& move) { return move.from.device == device; });
}

std::uint64_t Mover::pinned_pages(base::DeviceId device) {
    {
        base::MutexLock lock(mutex_);
        if (!maybe_pinned_.contains(device)) return 0;
    }
    const auto pinned = pins_.pinned_pages().value_or(0);
    if (pinned > 0) return pinned;
    base::MutexLock lock(mutex_);
    maybe_pinned_.erase(device);
    return 0;
}

void Mover::suspect_pins(base::DeviceId device) {
    base::MutexLock lock(mutex_);
    maybe_pinned_.insert(device);
}

Status Mover::isolate(InodeNo inode) {
    constexpr int kRoundsMax = 20;
    std::string reason = "the file changes all the time";
    for (int round = 0; round < kRoundsMax; ++round) {
        auto moves = store_.reserve_isolation(inode, kPieceBytesMax);
        if (!moves) return moves.error();
        if (moves->empty()) {
            release_placed();
            return {};
        }
        // All at once: the file's shared parts are small.
        auto outcome = move_batch(*moves);
        if (!outcome) return outcome.error();
        store_.abort_moves(outcome->later);
        if (!outcome->reason.empty()) reason = outcome->reason;
    }
    return Error(Code::Busy, "the file cannot be moved to segments of its own now: " + reason);
}

}  // namespace refault::failure
