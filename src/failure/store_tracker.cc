// Comparing and protecting.
#include "failure/store_tracker.h"

#include <algorithm>
#include <vector>

#include "base/range_set.h"
#include "sys/userfaultfd.h"

namespace refault::failure {

using base::FileRange;
using base::InodeNo;
using base::MutexLock;
using session::Registry;
using std::chrono::milliseconds;

namespace {

constexpr std::size_t kRegionsPerRound = 256;
// What a round may read: 32 MiB each 20 ms would be a fifth of a core at memory speed, and only
// when that much has become equal just now.
constexpr std::uint64_t kBytesPerRound = 32ull << 20;
constexpr std::size_t kChunkBytes = 128 * 1024;
constexpr std::size_t kToldPerRound = 256;
constexpr milliseconds kPauseMax{5000};
constexpr milliseconds kFencePatience{2};
constexpr std::chrono::seconds kForgetAfter{30};

}  // namespace

StoreTracker::~StoreTracker() {
    {
        MutexLock lock(mutex_);
        must_stop_ = true;
        changed_.notify_all();
    }
    thread_.join();
}

void StoreTracker::start() {
    thread_ = base::NamedThread("tracker", [this] { run(); });
}

void StoreTracker::run() {
    for (;;) {
        {
            MutexLock lock(mutex_);
            const auto until = Clock::now() + kInterval;
            while (!must_stop_ && Clock::now() < until) (void)changed_.wait_until(mutex_, until);
            if (must_stop_) return;
        }
        round();
        forget_what_was_told();
    }
}

// It runs when programs of an earlier daemon are back, so nobody is missing in the registry. A
// fence, because between the journal and its lift a recovery has not said yet whose places are
// stale.
void StoreTracker::forget_what_was_told() {
    std::vector<std::pair<InodeNo, FileRange>> told;
    for (const auto& [inode, range] : store_.taken_over()) {
        if (!registry_.is_placed(inode, range)) continue;
        if (!registry_.fence(inode, range, Clock::now() + kFencePatience,
                             Registry::OnSilence::Refuse, session::layer_mask(0)))
            continue;
        if (registry_.is_placed(inode, range)) told.emplace_back(inode, range);
        registry_.lift(inode, range, /*moved=*/0, /*keeps_clean=*/true);
        if (told.size() == kToldPerRound) break;
    }
    if (!told.empty())
        base::discard(store_.forget_taken_over(told), "they are held back once more at worst");
}

void StoreTracker::round() {
    const auto now = Clock::now();
    budget_bytes_ = kBytesPerRound;
    for (const auto& region : registry_.unclean_regions(kRegionsPerRound, cursor_)) {
        auto& attempt = attempts_[{region.mapping, region.range.begin()}];
        attempt.seen = now;
        if (attempt.next > now) continue;
        // Whoever takes the older bytes without a word need not be tracked.
        const auto attributes = store_.stat(region.inode);
        if (!attributes || attributes->on_loss == store::OnLoss::Rollback) {
            attempt.next = now + kPauseMax;
            continue;
        }
        try_region(region, attempt);
        attempt.pause = std::clamp(attempt.pause * 2, kInterval, kPauseMax);
        attempt.next = Clock::now() + attempt.pause;
        if (budget_bytes_ == 0) break;
    }
    // What has been clean, or gone, for long begins with short pauses again.
    std::erase_if(attempts_,
                  [&](const auto& entry) { return now - entry.second.seen > kForgetAfter; });
}

void StoreTracker::try_region(const Registry::Region& region, Attempt& attempt) {
    if (attempt.differs_at) {
        const auto page = FileRange::of_length(*attempt.differs_at, base::kPageBytes);
        if (first_difference(region.inode, page.intersect(region.range))) return;
        // It was persisted since: the rest may differ for other reasons, look soon.
        attempt.differs_at.reset();
        attempt.pause = milliseconds(0);
    }
    attempt.differs_at = first_difference(region.inode, region.range);
    if (!attempt.differs_at) (void)protect_and_compare(region);
}

// Stores that come in between wait in the kernel; who has waited is woken, and finds out from the
// next fault whether the region is tracked.
bool StoreTracker::protect_and_compare(const Registry::Region& region) {
    if (!faults_.pass(FaultPoint::TrackFence)) return false;
    auto targets = registry_.fence(region.inode, region.range, Clock::now() + kFencePatience,
                                   Registry::OnSilence::Refuse, session::layer_mask(0));
    if (!targets) return false;
    // What has moved or was repaired since the region was found is still to be mapped anew, and
    // its touches wait by the barrier's registration, which is not ours to replace.
    if (!registry_.is_settled(region)) {
        registry_.lift(region.inode, region.range, /*moved=*/0);
        return false;
    }
    const int fd = region.session->userfaultfd();
    bool is_clean = false;
    {
        auto layout = store_.lock_layout(region.inode);
        const bool is_protected =
            sys::userfaultfd_register(fd, region.addresses, {.write_protect = true}).ok() &&
            faults_.pass(FaultPoint::TrackProtect).ok() &&
            sys::userfaultfd_write_protect(fd, region.addresses).ok();
        is_clean = is_protected && !first_difference(region.inode, region.range) &&
                   registry_.mark_clean(region);
        if (!is_clean)
            base::discard(sys::userfaultfd_unregister(fd, region.addresses),
                          "the process may be gone");
    }
    // The lift wakes who has waited meanwhile: unregistering does so only where missing pages were
    // registered, too.
    registry_.lift(region.inode, region.range, /*moved=*/0, /*keeps_clean=*/is_clean);
    return is_clean;
}

std::optional<std::uint64_t> StoreTracker::first_difference(InodeNo inode, FileRange range) {
    const auto extents = store_.extents(inode, range);
    base::RangeSet compared;
    std::vector<std::uint8_t> left(kChunkBytes), right(kChunkBytes);
    for (const auto& primary : extents) {
        if (primary.replica != 0) continue;
        for (const auto& copy : extents) {
            const auto part = primary.file_range().intersect(copy.file_range());
            if (copy.replica == 0 || part.empty()) continue;
            auto from = store_.device(primary.device);
            auto to = store_.device(copy.device);
            if (!from || !to) return range.begin();
            for (auto at = part.begin(); at < part.end(); at += kChunkBytes) {
                const auto length = std::min<std::uint64_t>(kChunkBytes, part.end() - at);
                const std::span<std::uint8_t> one(left.data(), length), other(right.data(), length);
                if (!(*from)->read(primary.device_offset + (at - primary.file_offset), one) ||
                    !(*to)->read(copy.device_offset + (at - copy.file_offset), other))
                    return at;
                budget_bytes_ -= std::min(budget_bytes_, 2 * length);
                const auto [first, second] = std::mismatch(one.begin(), one.end(), other.begin());
                if (first != one.end())
                    return base::align_down(at + static_cast<std::uint64_t>(first - one.begin()),
                                            base::kPageBytes);
            }
            compared.add(part);
        }
    }
    // Behind the end of the file nothing can be stored.
    const auto attributes = store_.stat(inode);
    if (!attributes) return range.begin();
    const auto end = base::align_up(attributes->size_bytes, base::kPageBytes);
    const auto gaps = compared.gaps(range.intersect(FileRange(0, end)));
    return gaps.empty() ? std::nullopt : std::optional(gaps.front().begin());
}

}  // namespace refault::failure
