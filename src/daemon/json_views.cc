// Conversions to JSON.
#include "daemon/json_views.h"

#include <algorithm>

namespace refault::daemon {

using nlohmann::json;

namespace {

json holder_json(const failure::Holder& holder) {
    json result = {{"pid", holder.pid}, {"command", holder.command}, {"path", holder.path}};
    if (holder.kind == failure::Holder::Kind::Mapping) {
        result["kind"] = "mapping";
        result["address_begin"] = holder.addresses.begin();
        result["address_end"] = holder.addresses.end();
        result["file_offset"] = holder.file_range.begin();
    } else {
        result["kind"] = "descriptor";
        result["descriptor"] = holder.descriptor;
    }
    return result;
}

}  // namespace

json to_json(const DeviceView& device) {
    const char* const state = device.is_lost            ? "lost"
                              : !device.is_member       ? "removed"
                              : device.usage.is_leaving ? "leaving"
                                                        : "in-service";
    return {{"name", device.name},
            {"kind", device.kind},
            {"state", state},
            {"directory", device.directory},
            {"is_private_mount", device.is_private_mount},
            {"takes_userfaultfd", device.takes_userfaultfd},
            {"segment_bytes", device.segment_bytes},
            {"generation", device.generation},
            {"capacity_bytes", device.usage.capacity_bytes},
            {"data_bytes", device.usage.data_bytes},
            {"metadata_bytes", device.usage.metadata_bytes},
            {"free_bytes", device.usage.free_bytes},
            {"extents", device.usage.extents},
            {"has_metadata", device.usage.has_metadata},
            {"slot",
             {{"kind", device.slot},
              {"state", std::string(slot::slot_state_name(device.slot_state))},
              {"power", std::string(slot::indicator_name(device.power))},
              {"attention", std::string(slot::indicator_name(device.attention))}}}};
}

json device_json(Pool& pool, const DeviceView& device) {
    json result = to_json(device);
    auto removal = pool.removals().status(device.name);
    // What ended with the device in service, or is of an earlier device of that name, is not of
    // interest here.
    if (removal && (!device.is_member || !failure::is_ended(removal->phase)))
        result["removal"] = to_json(*removal);
    return result;
}

json to_json(const failure::ProofReport& report) {
    json holders = json::array();
    for (const auto& holder : report.holders) holders.push_back(holder_json(holder));
    json result = {{"is_proven", report.is_proven()},
                   {"summary", report.summary()},
                   {"holders", std::move(holders)},
                   {"processes_read", report.processes_read},
                   {"unreadable_pids", report.unreadable},
                   {"sees_all_processes", report.sees_all_processes},
                   {"seconds", report.seconds}};
    result["pinned_pages"] = report.pinned_pages;
    if (report.hidden_inodes) result["hidden_inodes"] = *report.hidden_inodes;
    return result;
}

json to_json(const failure::RemovalStatus& status) {
    json result = {{"device", status.device},
                   {"phase", std::string(failure::phase_name(status.phase))},
                   {"has_ended", failure::is_ended(status.phase)},
                   {"bytes_total", status.bytes_total},
                   {"bytes_done", status.bytes_done},
                   {"bytes_moved", status.bytes_moved},
                   {"extents_total", status.extents_total},
                   {"extents_done", status.extents_done},
                   {"moving_seconds", status.moving_seconds},
                   {"proving_seconds", status.proving_seconds},
                   {"worst_fence_ms", status.worst_fence_ms},
                   {"late_clients", status.late_clients},
                   {"reason", status.reason},
                   {"slot_state", std::string(slot::slot_state_name(status.slot_state))}};
    if (status.proof) result["proof"] = to_json(*status.proof);
    return result;
}

json to_json(const failure::RemovalPlan& plan) {
    json processes = json::array();
    for (const auto& process : plan.processes)
        processes.push_back({{"pid", process.pid},
                             {"command", process.command},
                             {"mapped_bytes", process.mapped_bytes}});
    return {{"devices", plan.devices},
            {"bytes_to_move", plan.bytes_to_move},
            {"extents_to_move", plan.extents_to_move},
            {"free_bytes_elsewhere", plan.free_bytes_elsewhere},
            {"moves_metadata", plan.moves_metadata},
            {"processes", std::move(processes)},
            {"is_possible", plan.is_possible},
            {"reason", plan.reason}};
}

namespace {
const char* type_name(store::FileType type) {
    switch (type) {
        case store::FileType::Regular:
            return "file";
        case store::FileType::Directory:
            return "directory";
        case store::FileType::Symlink:
            return "symlink";
        case store::FileType::Fifo:
            return "fifo";
        case store::FileType::Socket:
            return "socket";
        case store::FileType::CharDevice:
            return "char-device";
        case store::FileType::BlockDevice:
            return "block-device";
    }
    return "unknown";
}
}  // namespace

json to_json(const store::Attributes& attributes) {
    return {{"inode", attributes.inode.raw()},
            {"type", type_name(attributes.type)},
            {"mode", attributes.mode},
            {"uid", attributes.uid},
            {"gid", attributes.gid},
            {"links", attributes.links},
            {"size_bytes", attributes.size_bytes},
            {"allocated_bytes", attributes.allocated_bytes},
            {"accessed_ns", attributes.accessed_ns},
            {"modified_ns", attributes.modified_ns},
            {"changed_ns", attributes.changed_ns},
            {"created_ns", attributes.created_ns},
            {"replicas", attributes.replicas},
            {"on_loss", attributes.on_loss == store::OnLoss::Rollback ? "rollback" : "signal"}};
}

json paths_of(const store::Store& store, base::InodeNo inode) {
    auto paths = store.paths_of(inode);
    if (paths.empty()) paths.push_back(store.path_of(inode));
    return paths;
}

json to_json(const store::Located& located, const store::Store& store) {
    json owner = {{"device_begin", located.device_range.begin()},
                  {"device_end", located.device_range.end()}};
    if (located.is_metadata) {
        owner["owner"] = "metadata";
        return owner;
    }
    owner["owner"] = "file";
    owner["inode"] = located.inode.raw();
    owner["path"] = store.path_of(located.inode);
    owner["paths"] = paths_of(store, located.inode);
    owner["file_begin"] = located.file_range.begin();
    owner["file_end"] = located.file_range.end();
    owner["replica"] = located.replica;
    return owner;
}

json to_json(const failure::PageTables& tables, const std::vector<pid_t>& clients) {
    json mappings = json::array();
    for (const auto& mapping : tables.mappings) {
        json one = {{"pid", mapping.pid},
                    {"command", mapping.command},
                    {"is_client", std::binary_search(clients.begin(), clients.end(), mapping.pid)},
                    {"path", mapping.path},
                    {"is_shared", mapping.is_shared},
                    {"address_begin", mapping.addresses.begin()},
                    {"address_end", mapping.addresses.end()},
                    {"device_begin", mapping.device_range.begin()},
                    {"device_end", mapping.device_range.end()}};
        if (mapping.are_pages_known) {
            one["present_bytes"] = mapping.present_bytes();
            json& present = one["present"] = json::array();
            for (const auto range : mapping.present)
                present.push_back({{"device_begin", range.begin()}, {"device_end", range.end()}});
        }
        mappings.push_back(std::move(one));
    }
    json unreadable = json::array();
    for (const auto& process : tables.unreadable)
        unreadable.push_back(
            {{"pid", process.pid}, {"command", process.command}, {"reason", process.reason}});
    return {{"mappings", std::move(mappings)},
            {"unreadable", std::move(unreadable)},
            {"processes_read", tables.processes_read},
            {"seconds", tables.seconds}};
}

json to_json(const session::SessionInfo& session) {
    return {{"session", session.session.raw()},
            {"pid", session.pid},
            {"uid", session.uid},
            {"command", session.command},
            {"mappings", session.mappings},
            {"mapped_bytes", session.mapped_bytes},
            {"handles_kernel_faults", session.handles_kernel_faults}};
}

json to_json(const session::MappingInfo& mapping, const store::Store& store) {
    json ranges = json::array();
    for (const auto& extent : store.extents(mapping.inode, mapping.file_range)) {
        const auto device = store.device(extent.device);
        ranges.push_back({{"device", device ? (*device)->name() : "?"},
                          {"offset", extent.device_offset},
                          {"length", extent.length},
                          {"file_offset", extent.file_offset},
                          {"replica", extent.replica}});
    }
    std::uint64_t lost_bytes = 0;
    for (const auto& lost : store.lost(mapping.inode, mapping.file_range))
        lost_bytes += lost.range.intersect(mapping.file_range).length();
    return {{"session", mapping.session.raw()},
            {"mapping", mapping.mapping.raw()},
            {"pid", mapping.pid},
            {"uid", mapping.uid},
            {"command", mapping.command},
            {"inode", mapping.inode.raw()},
            {"path", mapping.path},
            {"file_begin", mapping.file_range.begin()},
            {"file_end", mapping.file_range.end()},
            {"address_begin", mapping.addresses.begin()},
            {"address_end", mapping.addresses.end()},
            {"access", mapping.access == base::Access::ReadWrite ? "read-write" : "read"},
            {"lost_bytes", lost_bytes},
            {"suspended_bytes", mapping.suspended_bytes},
            {"clean_bytes", mapping.clean_bytes},
            {"stale_bytes", mapping.stale_bytes},
            {"device_ranges", std::move(ranges)}};
}

}  // namespace refault::daemon
