// Registry::next_places: from stale parts to places and descriptors.
#include <map>
#include <tuple>

#include "session/mapping.h"
#include "session/registry.h"

namespace refault::session {

using base::Access;
using base::MutexLock;
using base::UniqueFd;
using store::SegmentOwner;

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
    FileRange add_beyond_end(const Mapping& mapping, FileRange range) {
        add_place(mapping, range, wire::kNoDescriptor, 0);
        return range;
    }

    // Adds places for one stale, unfenced range of a mapping and returns the part that they cover,
    // from its beginning.
    //
    //   range:     [-----------------------------)
    //   extents:   [ext 1  )[ext 2    )            beyond the end of the file: no descriptor,
    //   SIGBUS places:    [-------)[---------)[---------)
    Result<FileRange> add(const Mapping& mapping, FileRange range) {
        std::uint64_t at = range.begin();
        for (const auto& extent : store_.extents(mapping.inode, range)) {
            if (is_full()) return FileRange(range.begin(), at);
            if (at < extent.file_offset) {
                add_place(mapping, FileRange(at, extent.file_offset), wire::kNoDescriptor, 0);
                at = extent.file_offset;
                if (is_full()) return FileRange(range.begin(), at);
            }
            auto descriptor = descriptor_for(mapping, extent);
            if (!descriptor) {
                if (at > range.begin()) return FileRange(range.begin(), at);
                return descriptor.error();
            }
            if (*descriptor == wire::kNoDescriptor)
                return FileRange(range.begin(), at);  // not this user's yet
            auto device = store_.device(extent.device);
            if (!device) return device.error();
            add_place(mapping, extent.file_range(), *descriptor,
                      extent.device_offset % (*device)->segment_bytes());
            at = extent.file_range().end();
        }
        if (at < range.end() && !is_full()) {
            add_place(mapping, FileRange(at, range.end()), wire::kNoDescriptor, 0);
            at = range.end();
        }
        return FileRange(range.begin(), at);
    }

  private:
    void add_place(const Mapping& mapping, FileRange range, std::uint16_t descriptor,
                   std::uint64_t segment_offset) {
        const auto addresses = mapping.addresses_of(range);
        batch_.places.places.push_back({mapping.id, addresses.begin(), addresses.length(),
                                        descriptor, segment_offset, mapping.access});
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
        if (!opened) return opened.error();
        const auto index = static_cast<std::uint16_t>(batch_.descriptors.size());
        batch_.descriptors.push_back(std::move(*opened));
        known_.emplace(key, index);
        return index;
    }

    store::Store& store_;
    Batch batch_;
    std::map<std::tuple<base::DeviceId, base::SegmentNo, Access>, std::uint16_t> known_;
};

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
    for (auto& [id, mapping] : mappings_) {
        if (mapping->session != session) continue;
        if (std::erase_if(mapping->placing,
                          [&](const auto& part) { return part.sequence <= placed; }) > 0)
            changed_.notify_all();
        if (failure) continue;
        for (const auto stale : mapping->stale.parts()) {
            for (const auto open : unfenced_locked(mapping->inode, stale)) {
                if (builder.is_full() || failure) break;
                const auto concealed = concealed_part(mapping->inode, open);
                auto covered =
                    concealed.begin() == open.begin() && !concealed.empty()
                        ? Result<FileRange>(builder.add_beyond_end(*mapping, concealed))
                        : builder.add(*mapping, FileRange(open.begin(), concealed.begin()));
                if (!covered) {
                    failure = covered.error();
                    break;
                }
                mapping->stale.subtract(*covered);
                if (!covered->empty()) mapping->placing.push_back({next_sequence_, *covered});
            }
        }
    }
    Batch batch = builder.take();
    if (batch.places.places.empty() && failure) return *failure;
    if (!batch.places.places.empty()) ++next_sequence_;
    return batch;
}

}  // namespace refault::session
