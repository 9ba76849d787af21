// One mapping as the registry keeps it. Guarded by Registry::mutex_.
//
//   address            + 1 stride            + 2 strides
//   [ layer 0: what    [ layer 1: replica 1, [ layer 2 ...
//     the program has)   for persisting)
//
// A read-only mapping has layer 0 alone.
#pragma once

#include <memory>
#include <vector>

#include "base/range_set.h"
#include "session/registry.h"

namespace refault::session {

struct Registry::Mapping {
    struct Placing {
        std::uint64_t sequence = 0;  // of the Places message that carried it
        FileRange range;
    };
    // What is neither stale nor placing is live.
    struct Layer {
        bool is_used = false;  // the client has been told of this replica
        RangeSet stale;
        std::vector<Placing> placing;

        bool is_placing(FileRange range) const {
            for (const auto& part : placing)
                if (part.range.overlaps(range)) return true;
            return false;
        }
        bool lags(FileRange range) const { return stale.overlaps(range) || is_placing(range); }
    };

    MappingId id;
    std::shared_ptr<Session> session;
    InodeNo inode;
    FileRange file_range;
    std::uint64_t address = 0;
    base::Access access = base::Access::Read;
    std::vector<Layer> layers;
    // No store since the copies were last found equal: the kernel would have told.
    RangeSet clean;
    // Held back from this program: the copy may be older than its stores.
    RangeSet suspended;

    AddressRange addresses_of(FileRange range, std::uint32_t replica = 0) const {
        return AddressRange::of_length(address +
                                           replica * wire::mirror_stride(file_range.length()) +
                                           (range.begin() - file_range.begin()),
                                       range.length());
    }
    // The file range and layer at an address of the mapping; false: not in it.
    bool find(std::uint64_t at, std::uint64_t& file_offset, std::uint32_t& replica) const {
        if (at < address) return false;
        const auto stride = wire::mirror_stride(file_range.length());
        const auto layer = (at - address) / stride;
        const auto offset = (at - address) % stride;
        if (layer >= layers.size() || offset >= file_range.length()) return false;
        replica = static_cast<std::uint32_t>(layer);
        file_offset = file_range.begin() + offset;
        return true;
    }
    bool is_placing(FileRange range) const {
        for (const auto& layer : layers)
            if (layer.is_placing(range)) return true;
        return false;
    }
    bool lags(FileRange range) const {
        for (const auto& layer : layers)
            if (layer.lags(range)) return true;
        return false;
    }
    void mark_stale(FileRange range, LayerMask mask) {
        for (std::uint32_t i = 0; i < layers.size(); ++i) {
            if ((mask & layer_mask(i)) == 0) continue;
            if (mask == kAllLayers && !layers[i].is_used) continue;
            layers[i].is_used = true;
            clean.subtract(file_range.intersect(range));
            layers[i].stale.add(file_range.intersect(range));
        }
    }
    // What was being placed there is stale again.
    void give_up_placing(FileRange within) {
        for (auto& layer : layers)
            std::erase_if(layer.placing, [&](const Placing& part) {
                if (!part.range.overlaps(within)) return false;
                layer.stale.add(part.range);
                return true;
            });
    }
};

}  // namespace refault::session
