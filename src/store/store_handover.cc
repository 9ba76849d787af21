// What a crash has left of devices that leave as a pool of their own (store_export.cc).
//
//   labels       [a: this pool][e: the other][f: this pool]     e lists the other pool's log, which
//   then         [a: this pool][e: the other][f: the other]     names f, too
//
// The first label of the other pool is the moment of the hand-over: before it nothing has happened,
// from then on the files are the other pool's. This pool's journal may not say so yet.
#include <algorithm>

#include "base/log.h"
#include "store/metadata_log.h"
#include "store/state.h"
#include "store/store.h"

namespace refault::store {

using base::Code;
using base::Error;
using device::Label;
using device::LabelState;

namespace {

Result<State> state_of(const MetadataLog::History& history) {
    State state;
    for (const auto& record : history.checkpoint) RETURN_IF_ERROR(state.apply_record(record));
    for (const auto& record : history.transactions) RETURN_IF_ERROR(state.apply_record(record));
    return state;
}

std::optional<Label> member_label(const device::Device& device) {
    auto label = device.read_label();
    if (!label || label->state != LabelState::Member) return std::nullopt;
    return *label;
}

// Whether the pool knows the device, with an earlier generation than its label of another pool has.
bool was_handed_over(const State& state, const Label& label) {
    const auto* known = state.device(label.id);
    return known != nullptr && known->uuid == label.device && label.pool != state.pool_uuid() &&
           known->generation < label.generation;
}

}  // namespace

// Takes the devices of another pool out of the list when some pool among them says that they were
// its own. Changes nothing when there is none.
std::vector<DevicePtr> Store::part_handed_over(std::vector<DevicePtr>& devices) {
    std::set<std::string> pools;
    for (const auto& device : devices)
        if (const auto label = member_label(*device)) pools.insert(label->pool.to_string());
    for (const auto& pool : pools) {
        std::vector<DevicePtr> own, others;
        for (const auto& device : devices) {
            const auto label = member_label(*device);
            (label && label->pool.to_string() != pool ? others : own).push_back(device);
        }
        const auto history = MetadataLog::read_longest(own);
        if (!history) continue;
        const auto state = state_of(*history);
        if (!state || others.empty() ||
            !std::all_of(others.begin(), others.end(), [&](const DevicePtr& device) {
                return was_handed_over(*state, *member_label(*device));
            }))
            continue;
        devices = std::move(own);
        return others;
    }
    return {};
}

// The other labels follow, and this pool forgets the files and the devices. The checkpoint of the
// opening makes it durable; until then it is found anew.
Status Store::finish_hand_over_locked(const std::vector<DevicePtr>& handed_over,
                                      std::vector<DevicePtr>& devices) {
    if (handed_over.empty()) return {};
    const auto history = MetadataLog::read_longest(handed_over);
    if (!history) return history.error().within("a pool that was being detached");
    const auto left = state_of(*history);
    if (!left) return left.error().within("a pool that was being detached");
    base::log_line(base::LogLevel::Warning,
                   "finishing what a crash has left of detaching pool " + left->pool_name());
    std::set<DeviceId> ids;
    for (const auto& [id, device] : left->devices())
        if (const auto* known = state_->device(id); known != nullptr && known->uuid == device.uuid)
            ids.insert(id);
    for (const auto& device : devices) {
        auto label = member_label(*device);
        if (!label || !ids.contains(label->id) || left->device(label->id)->uuid != label->device)
            continue;
        label->pool = left->pool_uuid();
        label->generation = left->device(label->id)->generation;
        RETURN_IF_ERROR(device->write_label(*label));
    }
    std::erase_if(devices, [&](const DevicePtr& device) {
        return device->label().pool == left->pool_uuid();
    });
    for (const auto& [number, other] : left->inodes()) {
        const auto* node = state_->inode(number);
        if (node == nullptr || !other.has_bytes() || !node->has_bytes()) continue;
        std::vector<Operation> operations{op::DropExtents{number, 0}};
        if (node->is_named()) operations.push_back(op::UnlinkName{node->parent, node->name});
        if (node->rare)
            for (const auto& [directory, name] : node->rare->names)
                operations.push_back(op::UnlinkName{directory, name});
        operations.push_back(op::RemoveInode{number});
        for (const auto& operation : operations) RETURN_IF_ERROR(state_->apply(operation));
    }
    for (const auto id : ids) {
        const auto& map = state_->device(id)->map;
        for (std::uint32_t i = 0; i < map.segment_count(); ++i)
            if (map.owner(SegmentNo(i)))
                RETURN_IF_ERROR(state_->apply(op::DisownSegment{id, SegmentNo(i)}));
        RETURN_IF_ERROR(state_->apply(op::RemoveDevice{id}));
    }
    return {};
}

}  // namespace refault::store
