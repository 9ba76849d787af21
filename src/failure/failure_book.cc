// Records and histograms.
#include "failure/failure_book.h"

#include <algorithm>

namespace refault::failure {

using base::MutexLock;
using std::chrono::steady_clock;

namespace {

constexpr std::size_t kRecordsMax = 256;
constexpr std::size_t kPartsMax = 4096;
constexpr std::size_t kSignalsMax = 1024;

constexpr std::array<std::pair<FailureKind, std::string_view>, 6> kKinds{{
    {FailureKind::PlannedRemoval, "planned-removal"},
    {FailureKind::SurpriseRemoval, "surprise-removal"},
    {FailureKind::Poison, "poison"},
    {FailureKind::InputOutput, "io-error"},
    {FailureKind::Checksum, "checksum"},
    {FailureKind::UnderRepair, "under-repair"},
}};

std::uint64_t wall_clock_ns() {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                          std::chrono::system_clock::now().time_since_epoch())
                                          .count());
}

}  // namespace

std::string_view kind_name(FailureKind kind) noexcept {
    for (const auto& [known, name] : kKinds)
        if (known == kind) return name;
    return "unknown";
}

std::optional<FailureKind> kind_of(std::string_view name) noexcept {
    for (const auto& [kind, known] : kKinds)
        if (known == name) return kind;
    return std::nullopt;
}

std::string_view outcome_name(Outcome outcome) noexcept {
    switch (outcome) {
        case Outcome::Repaired:
            return "repaired";
        case Outcome::Promoted:
            return "promoted";
        case Outcome::CopyDropped:
            return "copy-dropped";
        case Outcome::Lost:
            return "lost";
        case Outcome::Metadata:
            return "metadata-rewritten";
    }
    return "unknown";
}

void Histogram::add(double ms) {
    std::size_t at = 0;
    while (at < kBoundsMs.size() && ms > kBoundsMs[at]) ++at;
    ++counts[at];
    ++total;
    sum_ms += ms;
}

double FailureBook::ms_since(steady_clock::time_point since) {
    return std::chrono::duration<double, std::milli>(steady_clock::now() - since).count();
}

// The records that are kept have consecutive numbers.
FailureBook::Kept* FailureBook::find_locked(std::uint64_t number) {
    if (kept_.empty()) return nullptr;
    const auto first = kept_.front().record.number;
    return number < first || number - first >= kept_.size() ? nullptr : &kept_[number - first];
}

std::uint64_t FailureBook::open(const std::string& device, base::DeviceRange range,
                                FailureKind kind, steady_clock::time_point noticed) {
    std::uint64_t number = 0;
    {
        MutexLock lock(mutex_);
        Kept kept;
        kept.since = noticed;
        number = kept.record.number = next_++;
        kept.record.device = device;
        kept.record.range = range;
        kept.record.kind = kind;
        kept.record.noticed_ns = wall_clock_ns();
        kept_.push_back(std::move(kept));
        if (kept_.size() > kRecordsMax) {
            add_signals(kept_.front().record, windows_);
            kept_.pop_front();
        }
    }
    events_.publish({"failure-noticed",
                     {{"failure", number},
                      {"device", device},
                      {"failure_kind", std::string(kind_name(kind))},
                      {"device_offset", range.begin()},
                      {"length_bytes", range.length()}}});
    return number;
}

std::string FailureBook::device_of(std::uint64_t number) {
    MutexLock lock(mutex_);
    const auto* kept = find_locked(number);
    return kept == nullptr ? "" : kept->record.device;
}

void FailureBook::add_part(std::uint64_t number, FailedPart part) {
    const auto publish = [&](const char* kind, const std::string& device) {
        events_.publish({kind,
                         {{"failure", number},
                          {"device", device},
                          {"device_offset", part.device_range.begin()},
                          {"inode", part.inode.raw()},
                          {"paths", part.paths},
                          {"file_offset", part.file_range.begin()},
                          {"length_bytes", part.file_range.length()},
                          {"was_open", part.was_open}}});
    };
    if (part.outcome == Outcome::Lost) publish("file-range-lost", device_of(number));
    if (part.may_be_older) publish("copy-may-be-older", device_of(number));
    MutexLock lock(mutex_);
    if (const auto known = told_.find(part.inode); known != told_.end())
        for (auto& [pid, ranges] : known->second)
            for (const auto range : part.lost) ranges.subtract(range);
    auto* kept = find_locked(number);
    if (kept == nullptr) return;
    // What is lost is never left out for what is not.
    if (kept->record.parts.size() < kPartsMax || part.outcome == Outcome::Lost)
        kept->record.parts.push_back(std::move(part));
    else
        ++kept->record.parts_left_out;
}

void FailureBook::metadata_lost(const std::string& reason) {
    events_.publish({"metadata-lost", {{"reason", reason}}});
}

void FailureBook::part_unmapped(std::uint64_t number) {
    MutexLock lock(mutex_);
    if (auto* kept = find_locked(number)) kept->part_unmapped_ms = ms_since(kept->since);
}

void FailureBook::unmapped(std::uint64_t number) {
    double ms = 0;
    {
        MutexLock lock(mutex_);
        auto* kept = find_locked(number);
        if (kept == nullptr || kept->record.unmapped_ms >= 0) return;
        ms = kept->part_unmapped_ms >= 0 ? kept->part_unmapped_ms : ms_since(kept->since);
        kept->record.unmapped_ms = ms;
        windows_.unmapped.add(ms);
    }
    events_.publish({"failure-unmapped", {{"failure", number}, {"after_ms", ms}}});
}

void FailureBook::repaired(std::uint64_t number) {
    double ms = 0;
    {
        MutexLock lock(mutex_);
        auto* kept = find_locked(number);
        if (kept == nullptr || kept->record.repaired_ms >= 0 || !has_repair(kept->record)) return;
        ms = kept->record.repaired_ms = ms_since(kept->since);
        windows_.repaired.add(ms);
    }
    events_.publish({"failure-repaired", {{"failure", number}, {"after_ms", ms}}});
}

// What is lost alone, or nothing at all, is not repaired by anything.
bool FailureBook::has_repair(const FailureRecord& record) {
    return record.kind == FailureKind::PlannedRemoval || record.parts_left_out > 0 ||
           std::any_of(record.parts.begin(), record.parts.end(),
                       [](const FailedPart& part) { return part.outcome != Outcome::Lost; });
}

bool FailureBook::close_if_repaired(std::uint64_t number) {
    {
        MutexLock lock(mutex_);
        const auto* kept = find_locked(number);
        if (kept == nullptr || kept->record.parts_left_out > 0) return false;
        for (const auto& part : kept->record.parts)
            if (part.outcome != Outcome::Repaired && part.outcome != Outcome::Metadata)
                return false;
    }
    repaired(number);
    return true;
}

bool FailureBook::has_repaired_copy(std::uint64_t number) {
    MutexLock lock(mutex_);
    const auto* kept = find_locked(number);
    return kept != nullptr && std::any_of(kept->record.parts.begin(), kept->record.parts.end(),
                                          [](const FailedPart& part) {
                                              return part.replica > 0 &&
                                                     part.outcome == Outcome::Repaired;
                                          });
}

void FailureBook::proven(std::uint64_t number) {
    MutexLock lock(mutex_);
    auto* kept = find_locked(number);
    if (kept == nullptr || kept->record.proven_ms >= 0) return;
    kept->record.proven_ms = ms_since(kept->since);
    windows_.proven.add(kept->record.proven_ms);
}

void FailureBook::all_repaired() {
    std::vector<std::uint64_t> open;
    {
        MutexLock lock(mutex_);
        for (const auto& kept : kept_)
            if (kept.record.repaired_ms < 0 && kept.record.unmapped_ms >= 0)
                open.push_back(kept.record.number);
    }
    for (const auto number : open) repaired(number);
}

// A program may touch thousands of lost pages: each process and reason is kept at least once a
// record, and told once.
void FailureBook::signalled(base::InodeNo inode, base::FileRange range, pid_t pid,
                            std::uint64_t address, const std::string& why) {
    bool is_news = false;
    {
        MutexLock lock(mutex_);
        if (why != "stale") told_[inode][pid].add(range);
        for (auto& kept : kept_) {
            const auto& parts = kept.record.parts;
            auto& told = kept.record.signalled;
            const bool is_about = std::any_of(parts.begin(), parts.end(), [&](const auto& part) {
                return part.inode == inode && part.file_range.overlaps(range);
            });
            if (!is_about) continue;
            const bool is_first = std::none_of(told.begin(), told.end(), [&](const auto& one) {
                return one.pid == pid && one.inode == inode && one.why == why;
            });
            // Touching the same again is the program's own affair.
            const bool is_known = std::any_of(told.begin(), told.end(), [&](const auto& one) {
                return one.pid == pid && one.inode == inode && one.why == why &&
                       one.file_range.overlaps(range);
            });
            is_news = is_news || is_first;
            if (is_first || (!is_known && told.size() < kSignalsMax))
                told.push_back({pid, inode, range, address, why, ms_since(kept.since)});
        }
    }
    if (!is_news) return;
    events_.publish({"process-signalled",
                     {{"pid", std::uint64_t(pid)},
                      {"inode", inode.raw()},
                      {"file_offset", range.begin()},
                      {"address", address},
                      {"why", why}}});
}

std::vector<pid_t> FailureBook::told(base::InodeNo inode, base::FileRange range) const {
    MutexLock lock(mutex_);
    std::vector<pid_t> pids;
    const auto known = told_.find(inode);
    if (known == told_.end()) return pids;
    for (const auto& [pid, ranges] : known->second)
        if (ranges.overlaps(range)) pids.push_back(pid);
    return pids;
}

std::vector<FailureRecord> FailureBook::records() const {
    MutexLock lock(mutex_);
    std::vector<FailureRecord> all;
    for (const auto& kept : kept_) all.push_back(kept.record);
    return all;
}

void FailureBook::add_signals(const FailureRecord& record, Windows& windows) {
    if (record.signalled.empty()) return;
    windows.first_signal.add(record.signalled.front().at_ms);
    windows.last_signal.add(record.signalled.back().at_ms);
}

// Of a record that is kept, another signal may follow.
Windows FailureBook::windows() const {
    MutexLock lock(mutex_);
    auto windows = windows_;
    for (const auto& kept : kept_) add_signals(kept.record, windows);
    return windows;
}

}  // namespace refault::failure
