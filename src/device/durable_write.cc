// Telling the rows of labels apart by what changes in them.
#include "device/durable_write.h"

#include "device/label.h"

namespace refault::device {

static_assert([] {
    for (std::size_t i = 0; i < kDurableWrites.size(); ++i)
        if (kDurableWrites[i].row != static_cast<DurableWrite>(i)) return false;
    return kDurableWrites.back().row == DurableWrite::Lock;
}());

DurableWrite label_change(const Label* old_label, const Label& new_label) noexcept {
    if (new_label.state == LabelState::Removed) return DurableWrite::LabelTombstone;
    if (old_label == nullptr || old_label->device != new_label.device)
        return DurableWrite::LabelJoin;
    if (old_label->pool != new_label.pool) return DurableWrite::LabelHandOver;
    if (old_label->generation != new_label.generation) return DurableWrite::LabelGeneration;
    if (new_label.metadata_segments.empty()) return DurableWrite::LabelClear;
    if (old_label->metadata_epoch != new_label.metadata_epoch) return DurableWrite::LabelEpoch;
    return DurableWrite::LabelGrow;
}

}  // namespace refault::device
