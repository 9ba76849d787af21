// The pool's metrics. Figures that the JSON views have as well come from those views, so that the
// two cannot differ in what they count.
#include "daemon/pool_metrics.h"

#include <span>

#include "daemon/failure_views.h"
#include "daemon/json_views.h"

namespace refault::daemon {

using nlohmann::json;
using Type = MetricsText::Type;

namespace {

constexpr const char* kDeviceStates[] = {"in-service", "leaving", "removed", "lost"};
constexpr const char* kSlotStates[] = {"in-service", "leaving", "unproven", "safe-to-pull",
                                       "failed"};

double number(const json& object, const char* name) {
    return object.at(name).get<double>();
}

// A state as Prometheus has it: each possible one is a sample, 1 for the one that it is.
void write_states(MetricsText& out, const std::vector<json>& devices, const char* name,
                  const char* help, std::span<const char* const> states,
                  const std::string& (*state_of)(const json&)) {
    out.family(name, Type::Gauge, help);
    for (const auto& device : devices)
        for (const char* state : states)
            out.sample(state_of(device) == state ? 1 : 0,
                       {{"device", device.at("name").get<std::string>()}, {"state", state}});
}

void write_devices(MetricsText& out, Pool& pool) {
    std::vector<json> devices;
    for (const auto& device : pool.devices()) devices.push_back(to_json(device));
    constexpr struct {
        const char* name;
        const char* field;
        const char* help;
    } kFamilies[] = {
        {"refault_device_capacity_bytes", "capacity_bytes", "Size of the device."},
        {"refault_device_data_bytes", "data_bytes", "Of the device, what files have there."},
        {"refault_device_metadata_bytes", "metadata_bytes",
         "Of the device, what the pool's metadata has there, in whole segments."},
        {"refault_device_free_bytes", "free_bytes", "Of the device, what new data may take."},
        {"refault_device_extents", "extents", "Parts of files that lie on the device."},
    };
    for (const auto& family : kFamilies) {
        out.family(family.name, Type::Gauge, family.help);
        for (const auto& device : devices)
            out.sample(number(device, family.field),
                       {{"device", device.at("name").get<std::string>()}});
    }
    using Text = const std::string&;
    write_states(out, devices, "refault_device_state", "1 for the state that the device is in.",
                 kDeviceStates,
                 [](const json& device) -> Text { return device.at("state").get_ref<Text>(); });
    write_states(out, devices, "refault_device_slot_state",
                 "1 for the state of the device's slot; unproven: somebody still holds the device.",
                 kSlotStates, [](const json& device) -> Text {
                     return device.at("slot").at("state").get_ref<Text>();
                 });
}

void write_files(MetricsText& out, Pool& pool) {
    const auto files = pool.store().files();
    std::uint64_t bytes = 0;
    for (const auto& [inode, size_bytes] : files) bytes += size_bytes;
    out.gauge("refault_files", "Files of the pool.", static_cast<double>(files.size()));
    out.gauge("refault_files_size_bytes", "Sizes of all files, holes included.",
              static_cast<double>(bytes));
    const auto sessions = pool.registry().sessions();
    std::uint64_t mappings = 0, mapped_bytes = 0;
    for (const auto& session : sessions) {
        mappings += session.mappings;
        mapped_bytes += session.mapped_bytes;
    }
    out.gauge("refault_sessions", "Programs that are connected by the library.",
              static_cast<double>(sessions.size()));
    out.gauge("refault_mappings", "Mappings of these programs.", static_cast<double>(mappings));
    out.gauge("refault_mapped_bytes", "Length of these mappings.",
              static_cast<double>(mapped_bytes));
    std::uint64_t stale_bytes = 0, suspended_bytes = 0;
    for (const auto& mapping : pool.registry().mappings()) {
        stale_bytes += mapping.stale_bytes;
        suspended_bytes += mapping.suspended_bytes;
    }
    out.gauge("refault_stale_bytes", "Of these mappings, what is mapped anew at the next touch.",
              static_cast<double>(stale_bytes));
    out.gauge("refault_suspended_bytes",
              "Of these mappings, what is held back until the program accepts older bytes.",
              static_cast<double>(suspended_bytes));
}

void write_window(MetricsText& out, const char* name, const char* help,
                  const failure::Histogram& window) {
    std::vector<double> bounds_s;
    for (const double bound_ms : failure::Histogram::kBoundsMs) bounds_s.push_back(bound_ms / 1e3);
    out.histogram(name, help, bounds_s, {window.counts.begin(), window.counts.end()},
                  window.sum_ms / 1e3);
}

void write_failures(MetricsText& out, Pool& pool) {
    const auto losses = losses_json(pool);
    const auto from_losses = [&](const char* name, const char* help, const char* field) {
        out.gauge(name, help, number(losses, field));
    };
    const auto records = pool.failures().records();
    out.counter("refault_failures_total",
                "Failures and removals recorded since the pool was opened.",
                records.empty() ? 0 : static_cast<double>(records.back().number));
    from_losses("refault_failures_open", "Failures that are not repaired; what is lost never is.",
                "failures_not_repaired");
    out.gauge("refault_lost_ranges", "Ranges of files of which no copy is left.",
              static_cast<double>(pool.store().all_lost().size()));
    from_losses("refault_lost_bytes", "Bytes in these ranges.", "lost_bytes");
    from_losses("refault_lost_files", "Files with such ranges.", "lost_files");
    from_losses("refault_missing_copy_bytes", "Bytes of copies that are missing.",
                "missing_copy_bytes");
    from_losses("refault_files_missing_copies", "Files with fewer copies than they are to have.",
                "files_missing_copies");
    from_losses("refault_unsynced_files", "Files whose copies may differ.", "unsynced_files");
    from_losses("refault_retired_bytes", "Memory that failed too often to be used again.",
                "retired_bytes");
    const auto windows = pool.failures().windows();
    write_window(out, "refault_failure_unmapped_seconds",
                 "From a failure until no page table had the memory any more.", windows.unmapped);
    write_window(out, "refault_failure_repaired_seconds",
                 "From a failure until every copy was there again.", windows.repaired);
    write_window(out, "refault_failure_proven_seconds",
                 "From the loss of a device until nobody held it any more.", windows.proven);
}

void write_removals(MetricsText& out, Pool& pool) {
    std::vector<failure::RemovalStatus> under_way;
    for (auto& removal : pool.removals().all())
        if (!failure::is_ended(removal.phase)) under_way.push_back(std::move(removal));
    out.gauge("refault_removals_running", "Devices that are being pulled.",
              static_cast<double>(under_way.size()));
    out.family("refault_removal_bytes", Type::Gauge, "What had to be moved off the device.");
    for (const auto& removal : under_way)
        out.sample(static_cast<double>(removal.bytes_total), {{"device", removal.device}});
    out.family("refault_removal_moved_bytes", Type::Gauge, "How much of that is done.");
    for (const auto& removal : under_way)
        out.sample(static_cast<double>(removal.bytes_done), {{"device", removal.device}});
    out.gauge("refault_detach_running", "1 while devices leave with their files.",
              failure::is_running(pool.detaching().status().phase) ? 1 : 0);
}

void write_background(MetricsText& out, Pool& pool) {
    const auto resync = pool.resync().status();
    out.gauge("refault_resync_running", "1 while copies are made or compared.",
              resync.is_running ? 1 : 0);
    out.gauge("refault_resync_queue_files", "Files that wait for it.",
              static_cast<double>(resync.files_left));
    out.gauge("refault_resync_queue_bytes", "Bytes that it has still to copy or compare.",
              static_cast<double>(resync.bytes_total - resync.bytes_done));
    out.gauge("refault_resync_unplaced_bytes", "Copies that find no place on any device.",
              static_cast<double>(resync.short_bytes));
    const auto scrub = pool.scrub().status();
    out.gauge("refault_scrub_running", "1 while everything is read and compared.",
              scrub.is_running ? 1 : 0);
    const auto mount = pool.mounts().info();
    const bool is_mounted = mount && !mount->has_ended;
    out.gauge("refault_mounts", "Mounts of the pool: none or one.", is_mounted ? 1 : 0);
    out.gauge("refault_mount_open_files", "Files that are open on the mount.",
              is_mounted ? static_cast<double>(mount->open_files) : 0);
    out.counter("refault_mount_requests_total", "Requests of the kernel since the pool is mounted.",
                is_mounted ? static_cast<double>(mount->requests) : 0);
    out.gauge("refault_mount_requests_running", "Of these, what is not answered yet.",
              is_mounted ? static_cast<double>(mount->requests_running) : 0);
}

void write_metadata(MetricsText& out, const store::Store::LogStatus& log) {
    out.gauge("refault_metadata_log_bytes", "Metadata log since the last checkpoint.",
              static_cast<double>(log.log_bytes));
    out.gauge("refault_metadata_checkpoint_bytes", "The last checkpoint of the metadata.",
              static_cast<double>(log.checkpoint_bytes));
    out.gauge("refault_metadata_epoch", "Checkpoints written in the life of the pool.",
              static_cast<double>(log.epoch));
    out.gauge("refault_metadata_copies", "Devices with a copy of the metadata.",
              static_cast<double>(log.devices.size()));
}

}  // namespace

void write_pool_metrics(MetricsText& out, Pool& pool) {
    out.family("refault_pool_info", Type::Gauge, "The open pool, by its labels; always 1.");
    out.sample(
        1, {{"pool", pool.store().pool_name()}, {"uuid", pool.store().pool_uuid().to_string()}});
    write_devices(out, pool);
    write_files(out, pool);
    write_failures(out, pool);
    write_removals(out, pool);
    write_background(out, pool);
    write_metadata(out, pool.store().log_status());
}

}  // namespace refault::daemon
