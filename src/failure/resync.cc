// The background rounds.
#include "failure/resync.h"

#include <algorithm>

#include "base/log.h"

namespace refault::failure {

using base::Code;
using base::FileRange;
using base::InodeNo;
using base::MutexLock;
using session::FenceTarget;
using session::Registry;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using store::Extent;
using store::Move;

namespace {

constexpr std::uint64_t kPieceBytes = 4ull << 20;
constexpr std::size_t kBatchMovesMax = 16;
constexpr milliseconds kFencePatience{100};
// Copies that found no place, or files that were busy, are tried again this often.
constexpr seconds kRetryInterval{2};
constexpr milliseconds kLaggardInterval{20};
constexpr milliseconds kSilencePatience{1000};
constexpr std::size_t kCompareBytes = 256 * 1024;

}  // namespace

Resync::Resync(store::Store& store, Registry& registry, session::WriteBarrier& barrier,
               Mover& mover, Recovery& recovery, FailureBook& book, base::EventSink& events,
               FaultPoints& faults)
    : store_(store),
      registry_(registry),
      barrier_(barrier),
      mover_(mover),
      recovery_(recovery),
      book_(book),
      events_(events),
      faults_(faults) {}

Resync::~Resync() {
    {
        MutexLock lock(mutex_);
        must_stop_ = true;
        changed_.notify_all();
    }
    thread_.join();
}

void Resync::start() {
    thread_ = base::NamedThread("resync", [this] { run(); });
    kick();
}

void Resync::kick() {
    {
        MutexLock lock(mutex_);
        is_kicked_ = true;
        status_.is_running = true;
    }
    changed_.notify_all();
}

void Resync::take_over(std::vector<Move> moves) {
    {
        MutexLock lock(mutex_);
        taken_over_.insert(taken_over_.end(), moves.begin(), moves.end());
    }
    kick();
}

ResyncStatus Resync::status() const {
    MutexLock lock(mutex_);
    return status_;
}

bool Resync::wait_until_idle(steady_clock::time_point deadline) const {
    MutexLock lock(mutex_);
    while (status_.is_running && !must_stop_)
        if (!changed_.wait_until(mutex_, deadline) && status_.is_running) return false;
    return true;
}

bool Resync::must_stop() const {
    MutexLock lock(mutex_);
    return must_stop_;
}

void Resync::note_progress(std::uint64_t bytes) {
    MutexLock lock(mutex_);
    status_.bytes_done = std::min(status_.bytes_done + bytes, status_.bytes_total);
}

// Until a kick, or for a while when something is left to be tried again. Meanwhile clients that lag
// map their new copies.
void Resync::wait_for_work(bool has_more) {
    const auto retry = steady_clock::now() + kRetryInterval;
    for (;;) {
        const bool has_unopened = mover_.open_placed();
        MutexLock lock(mutex_);
        if (is_kicked_ || must_stop_) return;
        if (has_unopened)
            (void)changed_.wait_until(mutex_, steady_clock::now() + kLaggardInterval);
        else if (has_more)
            (void)changed_.wait_until(mutex_, retry);
        else
            changed_.wait(mutex_);
        if (is_kicked_ || must_stop_ || (has_more && steady_clock::now() >= retry)) return;
    }
}

void Resync::run() {
    bool has_more = false;
    for (;;) {
        wait_for_work(has_more);
        {
            MutexLock lock(mutex_);
            if (must_stop_) return;
            is_kicked_ = false;
            status_.is_running = true;
            status_.bytes_total = status_.bytes_done = 0;
        }
        // The metadata's own copies first: what is found by it is lost with it.
        if (const auto copied = store_.ensure_metadata_copies(); !copied)
            base::log_line(base::LogLevel::Warning, "another copy of the metadata is made later: " +
                                                        copied.error().message());
        while (work() == Did::Something && !must_stop()) {
        }
        const auto left = store_.files_that_need_attention();
        // What somebody stores into may differ: that is its normal state.
        const auto open = std::count_if(left.begin(), left.end(), [&](const auto& file) {
            return file.missing_bytes > 0 || !registry_.has_writers(file.inode);
        });
        has_more = open > 0;
        if (!has_more) book_.all_repaired();
        MutexLock lock(mutex_);
        status_.is_running = is_kicked_;
        status_.path.clear();
        status_.files_left = static_cast<std::uint64_t>(open);
        status_.bytes_done = status_.bytes_total;
        changed_.notify_all();
    }
}

Resync::Did Resync::work() {
    std::vector<Move> taken_over;
    {
        MutexLock lock(mutex_);
        taken_over.swap(taken_over_);
    }
    (void)copy_all(taken_over);
    const auto files = store_.files_that_need_attention();
    std::uint64_t missing = 0;
    for (const auto& file : files) missing += file.missing_bytes;
    {
        MutexLock lock(mutex_);
        status_.files_left = files.size();
        status_.bytes_total = std::max(status_.bytes_total, status_.bytes_done + missing);
        status_.short_bytes = 0;
    }
    auto did = Did::Nothing;
    for (const auto& file : files) {
        if (must_stop()) break;
        const auto path = store_.path_of(file.inode);
        {
            MutexLock lock(mutex_);
            status_.path = path;
        }
        if (make_copies(file.inode) == Did::Something) did = Did::Something;
        if (file.is_unsynced && make_equal(file.inode) == Did::Something) did = Did::Something;
    }
    return did;
}

// A program that is stopped in the middle of mapping a place does not hold up its file's copies for
// good: as for a pull.
Registry::OnSilence Resync::silence_of(InodeNo inode) const {
    const auto since = silent_since_.find(inode);
    const bool is_overdue =
        since != silent_since_.end() && steady_clock::now() - since->second > kSilencePatience;
    return is_overdue ? Registry::OnSilence::GoOn : Registry::OnSilence::Refuse;
}

std::uint64_t Resync::copy_all(std::vector<Move>& moves) {
    std::uint64_t done_bytes = 0;
    for (std::size_t i = 0; i < moves.size();) {
        // One replica at a time: two fences on one range would wait for each other.
        std::size_t end = i + 1;
        while (end < moves.size() && end - i < kBatchMovesMax &&
               moves[end].copy_as == moves[i].copy_as &&
               moves[end].from.inode == moves[i].from.inode)
            ++end;
        const std::span<const Move> batch(moves.data() + i, end - i);
        i = end;
        if (must_stop()) {
            store_.abort_moves(batch);
            continue;
        }
        const auto inode = batch.front().from.inode;
        auto outcome = mover_.move_batch(batch, silence_of(inode));
        if (!outcome) {
            base::log_line(base::LogLevel::Warning,
                           "copies are made later: " + outcome.error().message());
            continue;
        }
        store_.abort_moves(outcome->later);
        if (outcome->later.empty())
            silent_since_.erase(inode);
        else
            silent_since_.emplace(inode, steady_clock::now());
        done_bytes += outcome->bytes_moved;
        note_progress(outcome->bytes_moved);
        // Equal again once it answers.
        if (outcome->has_laggards)
            base::discard(store_.set_unsynced(batch.front().from.inode, true),
                          "it stays as it is marked");
    }
    return done_bytes;
}

Resync::Did Resync::make_copies(InodeNo inode) {
    if (!faults_.pass(FaultPoint::ResyncReserve)) return Did::Nothing;
    auto plan = store_.reserve_copies(inode, kPieceBytes);
    if (!plan) return Did::Nothing;
    if (!plan->surplus.empty())
        base::discard(recovery_.drop_surplus(plan->surplus), "tried again in the next round");
    {
        MutexLock lock(mutex_);
        status_.short_bytes += plan->short_bytes;
    }
    if (plan->moves.empty()) return plan->surplus.empty() ? Did::Nothing : Did::Something;
    // From now on a store may be in one copy and not yet in the other.
    if (registry_.has_writers(inode)) base::discard(store_.set_unsynced(inode, true), "told below");
    events_.publish(
        {"resync-started",
         {{"path", store_.path_of(inode)}, {"moves", std::uint64_t(plan->moves.size())}}});
    const auto done_bytes = copy_all(plan->moves);
    if (done_bytes == 0) return Did::Nothing;
    events_.publish({"resync-done", {{"path", store_.path_of(inode)}, {"bytes", done_bytes}}});
    return Did::Something;
}

// Where the next piece with bytes in it begins, from a border of pieces on: holes have nothing to
// compare, and may be larger than all memory.
std::uint64_t Resync::next_piece(InodeNo inode, std::uint64_t offset, std::uint64_t size) const {
    const auto data = store_.next_data(inode, offset);
    return data ? base::align_down(*data, kPieceBytes) : size;
}

Resync::Did Resync::make_equal(InodeNo inode) {
    if (registry_.has_writers(inode)) return Did::Nothing;
    const auto attributes = store_.stat(inode);
    if (!attributes) return Did::Nothing;
    std::uint64_t differing = 0;
    const auto size = base::align_up(attributes->size_bytes, base::kPageBytes);
    for (auto at = next_piece(inode, 0, size); at < size;
         at = next_piece(inode, at + kPieceBytes, size)) {
        if (must_stop()) return Did::Nothing;
        const auto done =
            equalise(inode, FileRange(at, std::min(at + kPieceBytes, size)), differing);
        if (!done) return Did::Nothing;
    }
    // A writer that came meanwhile has set the mark for itself.
    if (registry_.has_writers(inode)) return Did::Nothing;
    if (!faults_.pass(FaultPoint::ResyncMark)) return Did::Nothing;
    if (!store_.set_unsynced(inode, false)) return Did::Nothing;
    if (differing > 0)
        events_.publish(
            {"copies-made-equal", {{"path", store_.path_of(inode)}, {"bytes", differing}}});
    return Did::Something;
}

Status Resync::equalise(InodeNo inode, FileRange range, std::uint64_t& differing) {
    RETURN_IF_ERROR(faults_.pass(FaultPoint::ResyncCompare));
    auto targets = registry_.fence(inode, range, steady_clock::now() + kFencePatience);
    if (!targets) return targets.error();
    Status result;
    {
        auto layout = store_.lock_layout(inode);
        const auto extents = store_.extents(inode, range);
        const bool has_copies = std::any_of(extents.begin(), extents.end(),
                                            [](const Extent& e) { return e.replica > 0; });
        if (has_copies) {
            (void)barrier_.close(*targets);
            for (const auto& primary : extents)
                for (const auto& copy : extents)
                    if (result && primary.replica == 0 && copy.replica > 0)
                        result = equalise_copy(primary, copy, differing);
            barrier_.open(*targets);
        }
    }
    registry_.lift(inode, range, /*moved=*/0);
    return result;
}

Status Resync::equalise_copy(const Extent& primary, const Extent& copy, std::uint64_t& differing) {
    const auto part = primary.file_range().intersect(copy.file_range());
    if (part.empty()) return {};
    auto from = store_.device(primary.device);
    if (!from) return from.error();
    auto to = store_.device(copy.device);
    if (!to) return to.error();
    std::vector<std::uint8_t> wanted(kCompareBytes), found(kCompareBytes);
    for (auto at = part.begin(); at < part.end(); at += kCompareBytes) {
        const auto length = std::min<std::uint64_t>(kCompareBytes, part.end() - at);
        const auto from_at = primary.device_offset + (at - primary.file_offset);
        const auto to_at = copy.device_offset + (at - copy.file_offset);
        const std::span<std::uint8_t> left(wanted.data(), length), right(found.data(), length);
        if (const auto read = (*from)->read(from_at, left); !read) {
            store_.report_media_error(primary.device, base::DeviceRange::of_length(from_at, length),
                                      store::MediaAccess::Read, read.error());
            return read;
        }
        const auto read = (*to)->read(to_at, right);
        if (read && std::equal(left.begin(), left.end(), right.begin())) continue;
        differing += length;
        auto written = faults_.pass(FaultPoint::ResyncWrite);
        if (written) written = (*to)->write(to_at, left);
        if (!written) {
            store_.report_media_error(copy.device, base::DeviceRange::of_length(to_at, length),
                                      store::MediaAccess::Write, written.error());
            return written;
        }
    }
    return (*to)->sync(copy.device_range());
}

ScrubReport Resync::scrub(const std::function<bool(std::uint64_t, std::uint64_t)>& progress) {
    ScrubReport report;
    std::vector<std::pair<InodeNo, std::uint64_t>> files;
    std::uint64_t total = 0;
    for (const auto& [inode, size_bytes] : store_.files()) {
        files.emplace_back(inode, base::align_up(size_bytes, base::kPageBytes));
        if (const auto attributes = store_.stat(inode)) total += attributes->allocated_bytes;
    }
    for (const auto& [inode, size] : files) {
        ++report.files;
        for (auto at = next_piece(inode, 0, size); at < size;
             at = next_piece(inode, at + kPieceBytes, size)) {
            const FileRange piece(at, std::min(at + kPieceBytes, size));
            for (const auto& lost : store_.lost(inode, piece))
                report.lost_bytes += lost.range.length();
            for (const auto& extent : store_.extents(inode, piece)) {
                if (extent.replica == 0) report.bytes_read += extent.length;
                auto device = store_.device(extent.device);
                std::vector<std::uint8_t> bytes(extent.length);
                if (!device || !store_.lost(inode, extent.file_range()).empty()) continue;
                if (const auto read = (*device)->read(extent.device_offset, bytes); !read) {
                    ++report.errors;
                    store_.report_media_error(extent.device, extent.device_range(),
                                              store::MediaAccess::Read, read.error());
                }
            }
            if (!equalise(inode, piece, report.differing_bytes)) ++report.errors;
            if (progress(report.bytes_read, total) && !must_stop()) continue;
            report.was_cancelled = true;
            return report;
        }
    }
    events_.publish({"scrub-done",
                     {{"bytes", report.bytes_read},
                      {"differing_bytes", report.differing_bytes},
                      {"errors", report.errors}}});
    return report;
}

}  // namespace refault::failure
