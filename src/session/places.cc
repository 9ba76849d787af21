// Registry::next_places: from stale parts to places and descriptors.
#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "session/mapping.h"
#include "session/registry.h"

namespace refault::session {

using base::Access;
using base::MutexLock;
using base::UniqueFd;
using store::SegmentOwner;
using wire::PlaceKind;

namespace {

// The owner rule: who gets a descriptor sees the whole segment.
bool may_have(const SegmentOwner& owner, InodeNo inode, const base::Cred& who) {
    switch (owner.kind) {
        case SegmentOwner::Kind::SharedByUser:
            return who.uid == 0 || who.uid == owner.uid;
        case SegmentOwner::Kind::Exclusive:
            return owner.inode == inode;
        case SegmentOwner::Kind::Metadata:
            return false;
    }
    return false;
}

}  // namespace

// Fills one batch. Lives for one call, under Registry::mutex_.
class Registry::BatchBuilder {
  public:
    BatchBuilder(store::Store& store, std::uint64_t sequence) : store_(store) {
        batch_.places.sequence = sequence;
    }

    bool is_full() const { return batch_.places.places.size() >= wire::kPlacesMax; }
    Batch take() { return std::move(batch_); }

    // Adds one place that is beyond the end of the file for its mapping; returns the range.
    FileRange add_beyond_end(const Mapping& mapping, std::uint32_t replica, FileRange range) {
        add_empty(mapping, replica, range, PlaceKind::BeyondEnd);
        return range;
    }

    // Adds places for one stale, unfenced range of a mapping and returns the part that they cover,
    // from its beginning.
    //
    //   range:     [------------------------------------)
    //   parts:     [ext 1  )[ext 2    )[lost)[beyond end)   without a segment: a touch is SIGBUS
    //   places:    [-------)[---------)[----)[----------)
    Result<FileRange> add(const Mapping& mapping, std::uint32_t replica, FileRange range) {
        std::uint64_t at = range.begin();
        for (const auto& part : parts_of(mapping, replica, range)) {
            if (is_full()) break;
            if (!part.extent) {
                add_empty(mapping, replica, part.range, part.kind);
                at = part.range.end();
                continue;
            }
            auto descriptor = descriptor_for(mapping, *part.extent);
            if (!descriptor) {
                if (at > range.begin()) break;
                return descriptor.error();
            }
            if (*descriptor == wire::kNoDescriptor) break;  // not this user's yet
            auto device = store_.device(part.extent->device);
            if (!device) return device.error();
            add_segment(mapping, replica, *part.extent, *descriptor, **device);
            at = part.range.end();
        }
        return FileRange(range.begin(), at);
    }

  private:
    struct Part {
        FileRange range;
        PlaceKind kind = PlaceKind::Segment;
        std::optional<store::Extent> extent;
    };

    // What a part is, the first that holds: lost, held back, in a segment, nothing.
    std::vector<Part> parts_of(const Mapping& mapping, std::uint32_t replica,
                               FileRange range) const {
        std::vector<Part> parts;
        RangeSet open;
        open.add(range);
        const auto take = [&](FileRange what, PlaceKind kind) {
            for (const auto part : open.parts(what)) parts.push_back({part, kind, std::nullopt});
            open.subtract(what);
        };
        const bool is_primary = replica == 0;
        for (const auto& lost : store_.lost(mapping.inode, range))
            take(lost.range, is_primary ? PlaceKind::Lost : PlaceKind::NoCopy);
        if (is_primary)
            for (const auto held : mapping.suspended.parts(range)) take(held, PlaceKind::Stale);
        for (auto extent : store_.extents(mapping.inode, range)) {
            if (extent.replica != replica) continue;
            for (const auto part : open.parts(extent.file_range())) {
                auto cut = extent;
                cut.device_offset += part.begin() - extent.file_offset;
                cut.file_offset = part.begin();
                cut.length = part.length();
                parts.push_back({part, PlaceKind::Segment, cut});
            }
            open.subtract(extent.file_range());
        }
        take(range, is_primary ? PlaceKind::BeyondEnd : PlaceKind::NoCopy);
        std::sort(parts.begin(), parts.end(),
                  [](const Part& a, const Part& b) { return a.range.begin() < b.range.begin(); });
        return parts;
    }

    void add_empty(const Mapping& mapping, std::uint32_t replica, FileRange range, PlaceKind kind) {
        const auto addresses = mapping.addresses_of(range, replica);
        batch_.places.places.push_back({mapping.id, addresses.begin(), addresses.length(),
                                        wire::kNoDescriptor, 0, mapping.access, kind,
                                        static_cast<std::uint8_t>(replica), false});
    }

    void add_segment(const Mapping& mapping, std::uint32_t replica, const store::Extent& extent,
                     std::uint16_t descriptor, const device::Device& device) {
        const auto addresses = mapping.addresses_of(extent.file_range(), replica);
        batch_.places.places.push_back({mapping.id, addresses.begin(), addresses.length(),
                                        descriptor, extent.device_offset % device.segment_bytes(),
                                        mapping.access, PlaceKind::Segment,
                                        static_cast<std::uint8_t>(replica),
                                        device.memory_kind() != device::MemoryKind::Shmem});
    }

    // The index of the segment's descriptor in the message; kNoDescriptor when the user may not
    // have it.
    Result<std::uint16_t> descriptor_for(const Mapping& mapping, const store::Extent& extent) {
        auto device = store_.device(extent.device);
        if (!device) return device.error();
        const auto segment = (*device)->segment_at(extent.device_offset);
        auto owner = store_.segment_owner(extent.device, segment);
        if (!owner) return owner.error();
        if (!may_have(*owner, mapping.inode, mapping.session->cred())) return wire::kNoDescriptor;
        const auto key = std::tuple(extent.device, segment, mapping.access);
        if (const auto known = known_.find(key); known != known_.end()) return known->second;
        auto opened = (*device)->open_segment(segment, mapping.access);
        if (!opened) {
            // Whoever repairs finds out what has become of it.
            store_.report_media_error(extent.device, extent.device_range(),
                                      store::MediaAccess::Read, opened.error());
            return opened.error();
        }
        const auto index = static_cast<std::uint16_t>(batch_.descriptors.size());
        batch_.descriptors.push_back(std::move(*opened));
        known_.emplace(key, index);
        return index;
    }

    store::Store& store_;
    Batch batch_;
    std::map<std::tuple<base::DeviceId, base::SegmentNo, Access>, std::uint16_t> known_;
};

// What is stale and not fenced; of the primary, only where no copy is stale any more.
std::vector<FileRange> Registry::placeable_locked(const Mapping& mapping,
                                                  std::uint32_t replica) const {
    RangeSet wanted;
    for (const auto stale : mapping.layers[replica].stale.parts()) wanted.add(stale);
    for (std::uint32_t i = 1; replica == 0 && i < mapping.layers.size(); ++i)
        for (const auto behind : mapping.layers[i].stale.parts()) wanted.subtract(behind);
    std::vector<FileRange> parts;
    for (const auto part : wanted.parts())
        for (const auto open : unfenced_locked(mapping.inode, part)) parts.push_back(open);
    return parts;
}

Result<Registry::Batch> Registry::next_places(const std::shared_ptr<Session>& session,
                                              std::uint64_t placed) {
    session->doorbell_answered();
    MutexLock lock(mutex_);
    BatchBuilder builder(store_, next_sequence_);
    std::optional<base::Error> failure;
    // The first part of a range that is concealed; empty, at its end, when none is.
    const auto concealed_part = [&](InodeNo inode, FileRange range) REQUIRES(mutex_) {
        FileRange first(range.end(), range.end());
        for (const auto& concealed : concealed_) {
            if (concealed.inode != inode || !concealed.range.overlaps(range)) continue;
            const auto part = concealed.range.intersect(range);
            if (part.begin() < first.begin()) first = part;
        }
        return first;
    };
    // Places for the beginning of an unfenced range.
    const auto place_first = [&](const Mapping& mapping, std::uint32_t replica, FileRange open)
                                 REQUIRES(mutex_) -> Result<FileRange> {
        const auto concealed = concealed_part(mapping.inode, open);
        if (concealed.begin() == open.begin() && !concealed.empty())
            return builder.add_beyond_end(mapping, replica, concealed);
        return builder.add(mapping, replica, FileRange(open.begin(), concealed.begin()));
    };
    for (auto& [id, mapping] : mappings_) {
        if (mapping->session != session) continue;
        // Copies first: once the program can store, what it persists must reach all of them.
        for (auto replica = static_cast<std::uint32_t>(mapping->layers.size()); replica-- > 0;) {
            auto& layer = mapping->layers[replica];
            if (std::erase_if(layer.placing,
                              [&](const auto& part) { return part.sequence <= placed; }) > 0)
                changed_.notify_all();
            for (const auto open : placeable_locked(*mapping, replica)) {
                if (builder.is_full() || failure) break;
                auto covered = place_first(*mapping, replica, open);
                if (!covered) {
                    failure = covered.error();
                    break;
                }
                layer.stale.subtract(*covered);
                if (!covered->empty()) layer.placing.push_back({next_sequence_, *covered});
            }
        }
    }
    Batch batch = builder.take();
    if (batch.places.places.empty() && failure) return *failure;
    if (!batch.places.places.empty()) ++next_sequence_;
    return batch;
}

}  // namespace refault::session
