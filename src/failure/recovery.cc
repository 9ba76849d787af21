// Recovering parts of files.
#include "failure/recovery.h"

#include <algorithm>
#include <thread>
#include <tuple>

#include "base/log.h"
#include "base/range_set.h"

namespace refault::failure {

using base::Code;
using base::DeviceRange;
using base::Error;
using base::FileRange;
using base::InodeNo;
using base::MutexLock;
using session::FenceTarget;
using session::Registry;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using store::Extent;
using store::OnLoss;

namespace {

// How long a failure waits for a pager that is in the middle of placing a part of the range.
constexpr milliseconds kPatience{50};
constexpr std::size_t kBatchParts = 64;
// How long, for all of a device, clients are given to let go of it by themselves.
constexpr milliseconds kLaggardPatience{300};

}  // namespace

// Fences of several ranges, the layout locks of their files, and the barrier on who maps them; all
// given back in the opposite order.
class Recovery::Fenced {
  public:
    Fenced(Recovery& recovery, std::vector<std::pair<InodeNo, FileRange>> ranges)
        : recovery_(recovery) {
        std::sort(ranges.begin(), ranges.end());
        for (const auto& [inode, range] : ranges) {
            auto targets = recovery_.registry_.fence(inode, range, steady_clock::now() + kPatience,
                                                     Registry::OnSilence::GoOn);
            if (!targets) continue;
            fences_.push_back({inode, range});
            targets_.insert(targets_.end(), targets->begin(), targets->end());
        }
        std::vector<InodeNo> inodes;
        for (const auto& fence : fences_) inodes.push_back(fence.inode);
        layouts_ = recovery_.store_.lock_layouts(std::move(inodes));
        // Who cannot be stopped has taken its memory out of reach itself.
        (void)recovery_.barrier_.close(targets_);
    }
    ~Fenced() {
        // What has moved is woken by its pager; the rest goes on where it is.
        if (moved_ == 0) recovery_.barrier_.open(targets_);
        layouts_ = {};
        for (const auto& fence : fences_)
            recovery_.registry_.lift(fence.inode, fence.range, moved_);
    }
    Fenced(const Fenced&) = delete;
    Fenced& operator=(const Fenced&) = delete;

    bool has(InodeNo inode, FileRange range) const {
        return std::any_of(fences_.begin(), fences_.end(), [&](const auto& fence) {
            return fence.inode == inode && fence.range.contains(range);
        });
    }
    void set_moved(session::LayerMask layers) { moved_ = layers; }

  private:
    struct Fence {
        InodeNo inode;
        FileRange range;
    };
    Recovery& recovery_;
    std::vector<Fence> fences_;
    std::vector<FenceTarget> targets_;
    store::LayoutLock layouts_;
    session::LayerMask moved_ = 0;
};

FailedPart Recovery::report_of(const Extent& extent) const {
    FailedPart report;
    report.inode = extent.inode;
    report.path = store_.path_of(extent.inode);
    report.file_range = extent.file_range();
    report.replica = extent.replica;
    report.device_range = extent.device_range();
    const auto spanning = registry_.spanning(extent.inode, extent.file_range());
    for (const auto& one : spanning) report.spanning.push_back(one.session->cred().pid);
    report.was_open = !spanning.empty() || store_.is_open(extent.inode);
    return report;
}

void Recovery::notify_early(InodeNo inode, FileRange range, wire::Answer what) {
    for (const auto& one : registry_.spanning(inode, range)) {
        if (!one.session->wants_early_notice()) continue;
        one.session->tell(wire::Notice{one.addresses.begin(), one.addresses.length(), what});
        book_.signalled(inode, one.range, one.session->cred().pid, one.addresses.begin(), "notice");
    }
}

void Recovery::hold_back_writers(const Extent& primary, FileRange range, FailedPart& report) {
    const auto attributes = store_.stat(primary.inode);
    if (attributes && attributes->on_loss == OnLoss::Rollback) return;
    for (const auto& held : registry_.suspend(primary.inode, range)) {
        report.suspended.push_back(held.session->cred().pid);
        if (!held.session->wants_early_notice()) continue;
        held.session->tell(
            wire::Notice{held.addresses.begin(), held.addresses.length(), wire::Answer::Stale});
    }
}

bool Recovery::is_segment_gone(const Extent& extent) const {
    auto device = store_.device(extent.device);
    return device && (*device)->probe_segment((*device)->segment_at(extent.device_offset)) ==
                         device::SegmentHealth::Gone;
}

bool Recovery::count_failure(base::DeviceId device, DeviceRange range) {
    MutexLock lock(mutex_);
    bool is_too_often = false;
    for (auto at = range.begin(); at < range.end(); at += base::kPageBytes) {
        const auto count = ++failures_[{device, at}];
        if (count < kRetireAfter) continue;
        is_too_often = true;
        retired_.push_back({device, DeviceRange::of_length(at, base::kPageBytes), count});
    }
    return is_too_often;
}

std::vector<RetiredRange> Recovery::retired() const {
    MutexLock lock(mutex_);
    return retired_;
}

// The hole drops the bad memory; the bytes come from the copies, which lie in pieces of their own:
//
//   bad      [================)
//   copies   [=== b ===)[= c =)
bool Recovery::repair_in_place(const Extent& bad) {
    auto device = store_.device(bad.device);
    if (!device || !(*device)->restore_size(bad.device_range()) ||
        !(*device)->punch(bad.device_range()))
        return false;
    std::uint64_t written = 0;
    for (const auto& copy : store_.extents(bad.inode, bad.file_range())) {
        const auto at = bad.device_offset + (copy.file_offset - bad.file_offset);
        // One source for each byte: the lowest replica that is not the bad one.
        if (copy.replica == bad.replica || copy.file_offset - bad.file_offset != written) continue;
        auto from = store_.device(copy.device);
        if (!from || !device::copy_range(**from, copy.device_range(), **device, at)) return false;
        written += copy.length;
    }
    return written == bad.length && (*device)->sync(bad.device_range());
}

Outcome Recovery::drop_part(const Part& part, FailedPart& report, bool stays_taken) {
    const auto dropped = store_.drop_copies(std::span(&part.extent, 1), part.kind);
    if (!dropped || dropped->empty()) {
        base::log_line(base::LogLevel::Error,
                       "a failed range stays as it is: " +
                           (dropped ? "it has changed meanwhile" : dropped.error().message()));
        return Outcome::CopyDropped;
    }
    const auto& done = dropped->front();
    for (const auto range : done.promoted) hold_back_writers(part.extent, range, report);
    const store::Move dropped_move{part.extent, {}, 0, {}};
    if (stays_taken)
        mover_.retire(dropped_move);
    else
        mover_.release_later({dropped_move});
    report.lost = done.lost;
    if (!done.lost.empty()) return Outcome::Lost;
    return part.extent.replica == 0 ? Outcome::Promoted : Outcome::CopyDropped;
}

// The caller holds the fence and the layout lock.
Outcome Recovery::recover_part(const Part& part, FailedPart& report) {
    const auto& bad = part.extent;
    const bool is_retired = count_failure(bad.device, bad.device_range());
    const auto copies = store_.extents(bad.inode, bad.file_range());
    const bool has_other = std::any_of(copies.begin(), copies.end(), [&](const Extent& copy) {
        return copy.replica != bad.replica;
    });
    if (has_other && !is_retired && !part.is_segment_gone && repair_in_place(bad)) {
        if (bad.replica == 0) hold_back_writers(bad, bad.file_range(), report);
        return Outcome::Repaired;
    }
    // A retired page is never handed out again: its space stays taken.
    const bool must_drop = has_other || is_retired || part.is_segment_gone;
    const auto outcome = must_drop ? drop_part(part, report, is_retired) : Outcome::Lost;
    if (!must_drop) report.lost = {bad.file_range()};
    if (!must_drop)
        if (const auto marked = store_.mark_lost(bad, part.kind); !marked)
            base::log_line(base::LogLevel::Error,
                           "a loss could not be recorded: " + marked.error().message());
    if (auto device = store_.device(bad.device))
        base::discard((*device)->punch(bad.device_range()),
                      "memory that cannot even be dropped is not handed out any more");
    return outcome;
}

// What is lost already is not lost twice.
void Recovery::add_unless_lost(const Extent& extent, std::vector<Extent>& parts) const {
    base::RangeSet open;
    open.add(extent.file_range());
    for (const auto& lost : store_.lost(extent.inode, extent.file_range()))
        open.subtract(lost.range);
    for (const auto part : open.parts()) {
        auto cut = extent;
        cut.device_offset += part.begin() - extent.file_offset;
        cut.file_offset = part.begin();
        cut.length = part.length();
        parts.push_back(cut);
    }
}

Status Recovery::recover_range(base::DeviceId id, DeviceRange range, FailureKind kind,
                               std::uint64_t record) {
    bool has_metadata = false;
    std::vector<Extent> parts;
    for (const auto& located : store_.locate(id, range)) {
        has_metadata = has_metadata || located.is_metadata;
        if (located.is_metadata) continue;
        const Extent extent{located.inode,
                            located.file_range.begin(),
                            id,
                            located.device_range.begin(),
                            located.file_range.length(),
                            located.replica};
        add_unless_lost(extent, parts);
    }
    for (const auto& extent : parts) {
        auto report = report_of(extent);
        {
            Fenced fenced(*this, {{extent.inode, extent.file_range()}});
            if (!fenced.has(extent.inode, extent.file_range()))
                return Error(Code::Busy, "a range that failed is locked by another operation");
            report.outcome = recover_part({extent, kind, is_segment_gone(extent)}, report);
            if (report.outcome != Outcome::Repaired || !report.suspended.empty())
                fenced.set_moved(session::kAllLayers);
        }
        // Also of what was repaired where it is: who goes on with it has read it anew.
        registry_.page_cache().drop(extent.inode, extent.file_range());
        // Before anybody is told: that is noted on the part.
        const bool is_lost = report.outcome == Outcome::Lost;
        book_.add_part(record, std::move(report));
        if (is_lost) notify_early(extent.inode, extent.file_range(), wire::Answer::Lost);
    }
    book_.unmapped(record);
    if (has_metadata) {
        FailedPart report;
        report.path = "(metadata)";
        report.device_range = range;
        report.outcome = Outcome::Metadata;
        RETURN_IF_ERROR(store_.rewrite_metadata());
        book_.add_part(record, std::move(report));
    }
    return {};
}

Status Recovery::drop_batch(std::span<const Extent> batch, FailureKind kind, std::uint64_t record) {
    std::vector<std::pair<InodeNo, FileRange>> ranges;
    for (const auto& extent : batch) ranges.emplace_back(extent.inode, extent.file_range());
    std::vector<FailedPart> reports;
    for (const auto& extent : batch) reports.push_back(report_of(extent));
    const bool is_device_gone = record != 0;
    {
        Fenced fenced(*this, ranges);
        fenced.set_moved(session::kAllLayers);
        for (std::size_t i = 0; i < batch.size(); ++i) {
            // A range that could not be fenced is taken in the next round.
            if (!fenced.has(batch[i].inode, batch[i].file_range())) continue;
            reports[i].outcome = drop_part({batch[i], kind, true}, reports[i], false);
            if (!is_device_gone) zap(batch[i]);
        }
    }
    if (is_device_gone) zap_laggards(batch);
    for (auto& report : reports) {
        const auto [inode, range, outcome] =
            std::tuple(report.inode, report.file_range, report.outcome);
        if (record != 0) book_.add_part(record, std::move(report));
        if (outcome == Outcome::Lost) notify_early(inode, range, wire::Answer::Lost);
    }
    return {};
}

void Recovery::zap(const Extent& extent) {
    if (auto device = store_.device(extent.device))
        base::discard((*device)->punch(extent.device_range()), "the memory is gone already");
}

// What is left on a device that is gone may come back with it, so it is left alone where everybody
// has let go of it. Who has not would go on with bytes that nobody else sees any more.
void Recovery::zap_laggards(std::span<const Extent> batch) {
    for (const auto& extent : batch)
        if (!registry_.wait_until_placed(extent.inode, extent.file_range(), laggards_until_))
            zap(extent);
}

Status Recovery::recover_device(base::DeviceId id, FailureKind kind, std::uint64_t record) {
    constexpr int kRoundsMax = 100;
    laggards_until_ = steady_clock::now() + kLaggardPatience;
    store_.set_failed(id);
    auto device = store_.device(id);
    if (!device) return device.error();
    const DeviceRange all(0, (*device)->capacity_bytes());
    const auto metadata = store_.evacuate_metadata(id);
    if (!metadata) {
        base::log_line(base::LogLevel::Error,
                       "the pool's metadata has no place left: " + metadata.error().message());
        book_.metadata_lost(metadata.error().message());
    }
    std::size_t left = 0;
    for (int round = 0; round < kRoundsMax; ++round) {
        std::vector<Extent> parts;
        for (const auto& located : store_.locate(id, all))
            if (!located.is_metadata)
                parts.push_back({located.inode, located.file_range.begin(), id,
                                 located.device_range.begin(), located.file_range.length(),
                                 located.replica});
        left = parts.size();
        if (parts.empty()) break;
        std::sort(parts.begin(), parts.end(), [](const Extent& a, const Extent& b) {
            return std::pair(a.inode, a.file_offset) < std::pair(b.inode, b.file_offset);
        });
        for (std::size_t i = 0; i < parts.size(); i += kBatchParts)
            RETURN_IF_ERROR(
                drop_batch(std::span(parts).subspan(i, std::min(kBatchParts, parts.size() - i)),
                           kind, record));
    }
    book_.unmapped(record);
    if (left > 0) return Error(Code::Busy, "parts of the device are locked by another operation");
    RETURN_IF_ERROR(metadata);
    return settle_device(id);
}

// The books: what waits for clients to let go of a device that is gone waits for nothing.
Status Recovery::settle_device(base::DeviceId id) {
    constexpr int kTriesMax = 250;
    constexpr milliseconds kInterval{20};
    Status removed;
    // A pull under way may hold places on it, until it finds out.
    for (int tries = 0; tries < kTriesMax; ++tries) {
        mover_.release_unmapped(id);
        removed = store_.remove_device(id);
        if (removed || removed.error().code() != Code::Busy) return removed;
        std::this_thread::sleep_for(kInterval);
    }
    return removed;
}

Status Recovery::drop_surplus(const std::vector<Extent>& copies) {
    for (std::size_t i = 0; i < copies.size(); i += kBatchParts)
        RETURN_IF_ERROR(
            drop_batch(std::span(copies).subspan(i, std::min(kBatchParts, copies.size() - i)),
                       FailureKind::PlannedRemoval, 0));
    mover_.release_placed();
    return {};
}

}  // namespace refault::failure
