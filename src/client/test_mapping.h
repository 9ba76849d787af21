// For tests: one mapping of a session as a test daemon keeps it. Not thread-safe.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/range_set.h"
#include "client/test_file.h"
#include "wire/message.h"

namespace refault::client::testing {

using base::AddressRange;

struct TestMapping {
    base::MappingId id;
    std::string path;
    FileRange file_range;
    AddressRange addresses;
    base::Access access = base::Access::Read;
    base::RangeSet stale;
    std::vector<std::pair<std::uint64_t, FileRange>> placing;  // by sequence

    AddressRange addresses_of(FileRange range) const {
        return AddressRange::of_length(addresses.begin() + (range.begin() - file_range.begin()),
                                       range.length());
    }

    // What is stale becomes a part of the message, as far as there is room.
    void add_places(const TestFile& file, wire::Places& places, std::vector<int>& descriptors) {
        for (const auto range : stale.parts()) {
            auto at = range.begin();
            for (const auto& part : file.parts()) {
                const auto covered = part.range.intersect(range);
                if (covered.empty()) continue;
                if (places.places.size() == wire::kPlacesMax) return;
                add_place(covered, descriptor_of(part, descriptors),
                          part.offset_of(covered.begin()), places);
                at = covered.end();
            }
            if (at < range.end())
                add_place(FileRange(at, range.end()), wire::kNoDescriptor, 0, places);
        }
    }

  private:
    void add_place(FileRange range, std::uint16_t descriptor, std::uint64_t segment_offset,
                   wire::Places& places) {
        if (places.places.size() == wire::kPlacesMax) return;
        const auto to = addresses_of(range);
        const auto kind = descriptor == wire::kNoDescriptor ? wire::PlaceKind::BeyondEnd
                                                            : wire::PlaceKind::Segment;
        places.places.push_back(
            {id, to.begin(), to.length(), descriptor, segment_offset, access, kind, 0, false});
        placing.emplace_back(places.sequence, range);
        stale.subtract(range);
    }
    std::uint16_t descriptor_of(const Part& part, std::vector<int>& descriptors) const {
        const auto& segment = *part.segment;
        const int fd =
            access == base::Access::Read ? segment.read_only.get() : segment.writable.get();
        const auto known = std::find(descriptors.begin(), descriptors.end(), fd);
        const auto index = static_cast<std::uint16_t>(known - descriptors.begin());
        if (known == descriptors.end()) descriptors.push_back(fd);
        return index;
    }
};

}  // namespace refault::client::testing
