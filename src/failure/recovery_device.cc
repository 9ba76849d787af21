// Recovering all of a device that is gone, and dropping copies that are too many.
#include <algorithm>
#include <thread>
#include <tuple>

#include "base/log.h"
#include "failure/recovery_fence.h"

namespace refault::failure {

using base::Code;
using base::DeviceRange;
using base::Error;
using base::FileRange;
using base::InodeNo;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using store::Extent;

namespace {

constexpr std::size_t kBatchParts = 64;
// How long, for all of a device, clients are given to let go of it by themselves.
constexpr milliseconds kLaggardPatience{300};

}  // namespace

Status Recovery::drop_batch(std::span<const Extent> batch, FailureKind kind, std::uint64_t record) {
    std::vector<std::pair<InodeNo, FileRange>> ranges;
    for (const auto& extent : batch) ranges.emplace_back(extent.inode, extent.file_range());
    std::vector<FailedPart> reports(batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i) describe(batch[i], reports[i]);
    const bool is_device_gone = record != 0;
    std::vector<bool> is_dropped(batch.size());
    Status result = is_device_gone ? faults_.pass(FaultPoint::LoseFence) : Status();
    if (!result) return result;
    {
        Fenced fenced(*this, ranges, session::kAllLayers, session::WriteBarrier::Stop::Copy);
        fenced.set_moved(session::kAllLayers);
        for (std::size_t i = 0; i < batch.size(); ++i) {
            // A range that could not be fenced is taken in the next round.
            if (!fenced.has(batch[i].inode, batch[i].file_range())) continue;
            // Nor one that has changed: what is left of it is found anew then.
            if (!is_held(batch[i])) continue;
            const auto done = drop_part({batch[i], kind, record}, reports[i], false);
            if (!done) result = done.error();
            if (!done || !*done) continue;
            is_dropped[i] = true;
            if (!is_device_gone) zap(batch[i]);
        }
    }
    if (is_device_gone) zap_laggards(batch);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        if (!is_dropped[i]) continue;
        auto& report = reports[i];
        const auto [inode, range, outcome] =
            std::tuple(report.inode, report.file_range, report.outcome);
        if (record != 0) book_.add_part(record, std::move(report));
        if (outcome == Outcome::Lost) notify_early(inode, range, wire::Answer::Lost);
    }
    return result;
}

void Recovery::zap(const Extent& extent) {
    if (auto device = store_.device(extent.device))
        base::discard((*device)->punch(extent.device_range()), "the memory is gone already");
}

// What is left on a device that is gone may come back with it, so it is left alone where everybody
// has let go of it. Who has not would go on with bytes that nobody else sees any more.
void Recovery::zap_laggards(std::span<const Extent> batch) {
    std::vector<Extent> mapped;
    for (const auto& extent : batch)
        if (!registry_.wait_until_placed(extent.inode, extent.file_range(), laggards_until_))
            mapped.push_back(extent);
    // First, or what is punched might be taken for the file's bytes when the device comes back.
    if (const auto noted = store_.forget_absent_parts(mapped); !noted)
        base::log_line(base::LogLevel::Error, "a device that is gone may come back with holes: " +
                                                  noted.error().message());
    for (const auto& extent : mapped) zap(extent);
}

bool Recovery::has_extents(base::DeviceId id) const {
    const auto usage = store_.usage();
    return std::any_of(usage.begin(), usage.end(), [&](const store::DeviceUsage& device) {
        return device.id == id && device.extents > 0;
    });
}

Status Recovery::drop_all_parts(base::DeviceId id, DeviceRange all, FailureKind kind,
                                std::uint64_t record) {
    std::vector<Extent> parts;
    for (const auto& located : store_.locate(id, all))
        if (!located.is_metadata)
            parts.push_back({located.inode, located.file_range.begin(), id,
                             located.device_range.begin(), located.file_range.length(),
                             located.replica});
    std::sort(parts.begin(), parts.end(), [](const Extent& a, const Extent& b) {
        return std::pair(a.inode, a.file_offset) < std::pair(b.inode, b.file_offset);
    });
    Status result;
    for (std::size_t i = 0; i < parts.size(); i += kBatchParts)
        if (const auto done = drop_batch(
                std::span(parts).subspan(i, std::min(kBatchParts, parts.size() - i)), kind, record);
            !done)
            result = done;
    return result;
}

Status Recovery::recover_device(base::DeviceId id, FailureKind kind, std::uint64_t record) {
    constexpr int kRoundsMax = 20;
    laggards_until_ = steady_clock::now() + kLaggardPatience;
    store_.set_failed(id);
    auto device = store_.device(id);
    if (!device) return device.error();
    auto metadata = faults_.pass(FaultPoint::LoseMetadata);
    if (metadata) metadata = store_.evacuate_metadata(id);
    const bool is_metadata_lost = !metadata && metadata.error().code() == Code::NoSpace;
    if (is_metadata_lost) {
        base::log_line(base::LogLevel::Error,
                       "the pool's metadata has no place left: " + metadata.error().message());
        book_.metadata_lost(metadata.error().message());
    }
    const DeviceRange all(0, (*device)->capacity_bytes());
    Status dropped;
    for (int round = 0; round < kRoundsMax; ++round) {
        dropped = drop_all_parts(id, all, kind, record);
        if (is_metadata_lost || (dropped && !has_extents(id))) break;
    }
    book_.unmapped(record);
    RETURN_IF_ERROR(metadata);
    RETURN_IF_ERROR(dropped);
    if (has_extents(id))
        return Error(Code::Busy, "parts of the device are locked by another operation");
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
        removed = faults_.pass(FaultPoint::LoseSettle);
        if (removed) removed = store_.remove_device(id);
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
