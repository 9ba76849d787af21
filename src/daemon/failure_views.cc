// Records, windows and losses as JSON.
#include "daemon/failure_views.h"

#include <algorithm>
#include <set>

#include "daemon/json_views.h"

namespace refault::daemon {

using Json = nlohmann::json;

namespace {

// Null for a time that has not come.
Json time_or_null(double ms) {
    return ms < 0 ? Json(nullptr) : Json(ms);
}

Json to_json(const failure::FailedPart& part) {
    return {{"inode", part.inode.raw()},
            {"path", part.path()},
            {"paths", part.paths},
            {"file_begin", part.file_range.begin()},
            {"file_end", part.file_range.end()},
            {"replica", part.replica},
            {"device_begin", part.device_range.begin()},
            {"device_end", part.device_range.end()},
            {"outcome", std::string(failure::outcome_name(part.outcome))},
            {"was_open", part.was_open},
            {"may_be_older", part.may_be_older},
            {"spanning_pids", part.spanning},
            {"stale_for_pids", part.suspended}};
}

Json to_json(const failure::Histogram& histogram) {
    Json classes = Json::array();
    for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
        const bool has_bound = i < failure::Histogram::kBoundsMs.size();
        classes.push_back(
            {{"up_to_ms", has_bound ? Json(failure::Histogram::kBoundsMs[i]) : nullptr},
             {"count", histogram.counts[i]}});
    }
    return {{"count", histogram.total}, {"sum_ms", histogram.sum_ms}, {"classes", classes}};
}

}  // namespace

Json to_json(const failure::FailureRecord& record) {
    Json parts = Json::array();
    for (const auto& part : record.parts) parts.push_back(to_json(part));
    Json signalled = Json::array();
    for (const auto& one : record.signalled)
        signalled.push_back({{"pid", one.pid},
                             {"address", one.address},
                             {"why", one.why},
                             {"after_ms", one.at_ms}});
    const auto& told = record.signalled;
    return {{"failure", record.number},
            {"device", record.device},
            {"device_begin", record.range.begin()},
            {"device_end", record.range.end()},
            {"kind", std::string(failure::kind_name(record.kind))},
            {"noticed_ns", record.noticed_ns},
            {"unmapped_ms", time_or_null(record.unmapped_ms)},
            {"first_signal_ms", told.empty() ? Json(nullptr) : Json(told.front().at_ms)},
            {"last_signal_ms", told.empty() ? Json(nullptr) : Json(told.back().at_ms)},
            {"repaired_ms", time_or_null(record.repaired_ms)},
            {"proven_ms", time_or_null(record.proven_ms)},
            {"parts", std::move(parts)},
            {"parts_left_out", record.parts_left_out},
            {"signalled", std::move(signalled)}};
}

Json to_json(const failure::Windows& windows) {
    return {{"unmapped", to_json(windows.unmapped)},
            {"first_signal", to_json(windows.first_signal)},
            {"last_signal", to_json(windows.last_signal)},
            {"repaired", to_json(windows.repaired)},
            {"proven", to_json(windows.proven)}};
}

Json to_json(const failure::ResyncStatus& status) {
    return {{"is_running", status.is_running}, {"path", status.path},
            {"files_left", status.files_left}, {"bytes_total", status.bytes_total},
            {"bytes_done", status.bytes_done}, {"short_bytes", status.short_bytes}};
}

Json to_json(const failure::ScrubStatus& status) {
    Json json = {{"is_running", status.is_running},
                 {"bytes_done", status.bytes_done},
                 {"bytes_total", status.bytes_total},
                 {"last", nullptr}};
    if (status.last)
        json["last"] = {{"files", status.last->files},
                        {"bytes_read", status.last->bytes_read},
                        {"differing_bytes", status.last->differing_bytes},
                        {"errors", status.last->errors},
                        {"lost_bytes", status.last->lost_bytes},
                        {"was_cancelled", status.last->was_cancelled}};
    return json;
}

Json to_json(const failure::DetachPlan& plan) {
    Json processes = Json::array();
    for (const auto& process : plan.processes)
        processes.push_back({{"pid", process.pid},
                             {"command", process.command},
                             {"mapped_bytes", process.mapped_bytes}});
    return {{"files", plan.files},
            {"bytes", plan.bytes},
            {"incomplete", plan.incomplete},
            {"processes", std::move(processes)},
            {"is_possible", plan.is_possible()},
            {"reason", plan.reason}};
}

Json to_json(const failure::DetachStatus& status) {
    const auto phase = status.phase;
    return {{"phase", std::string(failure::phase_name(phase))},
            {"is_running", failure::is_running(phase)},
            {"devices", status.devices},
            {"reason", status.reason},
            {"asked_pids", status.asked},
            {"killed_pids", status.killed},
            {"proof", status.proof ? to_json(*status.proof) : Json(nullptr)}};
}

Json losses_json(Pool& pool) {
    std::uint64_t lost_bytes = 0, short_files = 0, short_bytes = 0, unsynced_files = 0;
    std::set<base::InodeNo> lost_files;
    for (const auto& [inode, lost] : pool.store().all_lost()) {
        lost_bytes += lost.range.length();
        lost_files.insert(inode);
    }
    for (const auto& file : pool.store().files_that_need_attention()) {
        short_files += file.missing_bytes > 0 ? 1 : 0;
        short_bytes += file.missing_bytes;
        unsynced_files += file.is_unsynced ? 1 : 0;
    }
    std::set<std::pair<base::DeviceId, std::uint64_t>> retired;
    for (const auto& one : pool.retired()) retired.emplace(one.device, one.range.begin());
    std::uint64_t unrepaired = 0;
    for (const auto& record : pool.failures().records())
        if (record.kind != failure::FailureKind::PlannedRemoval && record.repaired_ms < 0)
            ++unrepaired;
    return {{"lost_bytes", lost_bytes},
            {"lost_files", lost_files.size()},
            {"files_missing_copies", short_files},
            {"missing_copy_bytes", short_bytes},
            {"unsynced_files", unsynced_files},
            {"retired_bytes", retired.size() * base::kPageBytes},
            {"failures_not_repaired", unrepaired},
            {"lost_devices", pool.store().absent_devices()}};
}

Json lost_ranges_json(const store::Store& store, base::InodeNo inode) {
    Json ranges = Json::array();
    for (const auto& lost : store.lost(inode, base::FileRange(0, UINT64_MAX)))
        ranges.push_back({{"file_begin", lost.range.begin()},
                          {"file_end", lost.range.end()},
                          {"kind", std::string(failure::kind_name(lost.kind))}});
    return ranges;
}

Json lost_json(Pool& pool) {
    const auto records = pool.failures().records();
    Json list = Json::array();
    for (const auto& [inode, lost] : pool.store().all_lost()) {
        std::string device = pool.name_of(lost.device);
        bool was_open = false;
        for (const auto& record : records)
            for (const auto& part : record.parts) {
                if (part.inode != inode || !part.file_range.overlaps(lost.range)) continue;
                was_open = was_open || part.was_open;
                if (record.kind == lost.kind && !record.device.empty()) device = record.device;
            }
        list.push_back({{"inode", inode.raw()},
                        {"paths", paths_of(pool.store(), inode)},
                        {"file_begin", lost.range.begin()},
                        {"file_end", lost.range.end()},
                        {"device", device},
                        {"device_begin", lost.device_offset},
                        {"device_end", lost.device_offset + lost.range.length()},
                        {"kind", std::string(failure::kind_name(lost.kind))},
                        {"lost_ns", lost.lost_ns},
                        {"was_open", was_open},
                        {"is_open", pool.store().is_open(inode)},
                        {"signalled_pids", pool.failures().told(inode, lost.range)}});
    }
    return {{"lost", std::move(list)}};
}

}  // namespace refault::daemon
