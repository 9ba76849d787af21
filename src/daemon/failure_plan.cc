// Outcomes of a failure that has not happened.
#include "daemon/failure_plan.h"

#include "base/range_set.h"
#include "daemon/json_views.h"

namespace refault::daemon {

using base::DeviceRange;
using base::FileRange;
using base::RangeSet;
using failure::Outcome;
using Json = nlohmann::json;
using store::Located;

namespace {

Json part_json(const store::Store& store, const Located& located, FileRange range,
               Outcome outcome) {
    auto part = located;
    part.file_range = range;
    part.device_range = DeviceRange::of_length(
        located.device_range.begin() + (range.begin() - located.file_range.begin()),
        range.length());
    Json json = to_json(part, store);
    json["outcome"] = std::string(failure::outcome_name(outcome));
    return json;
}

Json metadata_json(const store::Store& store, const Located& located) {
    Json json = to_json(located, store);
    json["path"] = "(metadata)";
    json["outcome"] = std::string(failure::outcome_name(Outcome::Metadata));
    return json;
}

// What becomes of bytes that have another copy.
Outcome outcome_with_copy(const Pool& pool, const Located& located, const FailingRange& failing) {
    if (!failing.is_whole && !pool.is_worn_out(failing.device, located.device_range))
        return Outcome::Repaired;
    return located.replica == 0 ? Outcome::Promoted : Outcome::CopyDropped;
}

void add_file_part(Pool& pool, const Located& located, const FailingRange& failing, Json& parts) {
    const auto& store = pool.store();
    // What is lost already is not lost twice.
    RangeSet there, copied;
    there.add(located.file_range);
    for (const auto& lost : store.lost(located.inode, located.file_range))
        there.subtract(lost.range);
    for (const auto& copy : store.extents(located.inode, located.file_range))
        if (copy.replica != located.replica) copied.add(copy.file_range());
    for (const auto part : there.parts()) {
        for (const auto range : copied.parts(part))
            parts.push_back(
                part_json(store, located, range, outcome_with_copy(pool, located, failing)));
        for (const auto range : copied.gaps(part))
            parts.push_back(part_json(store, located, range, Outcome::Lost));
    }
}

}  // namespace

Json failure_plan(Pool& pool, const std::string& name, const FailingRange& failing,
                  failure::FailureKind kind) {
    Json parts = Json::array();
    for (const auto& located : pool.store().locate(failing.device, failing.range)) {
        if (located.is_metadata)
            parts.push_back(metadata_json(pool.store(), located));
        else
            add_file_part(pool, located, failing, parts);
    }
    return {{"device", name},
            {"device_begin", failing.range.begin()},
            {"device_end", failing.range.end()},
            {"kind", std::string(failure::kind_name(kind))},
            {"dry_run", true},
            {"parts", std::move(parts)}};
}

}  // namespace refault::daemon
