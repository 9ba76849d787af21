// One mapping as the registry keeps it. Guarded by Registry::mutex_.
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

    MappingId id;
    std::shared_ptr<Session> session;
    InodeNo inode;
    FileRange file_range;
    std::uint64_t address = 0;
    base::Access access = base::Access::Read;
    // What is neither stale nor placing is live.
    RangeSet stale;
    std::vector<Placing> placing;

    AddressRange addresses_of(FileRange range) const {
        return AddressRange::of_length(address + (range.begin() - file_range.begin()),
                                       range.length());
    }
    bool is_placing(FileRange range) const {
        for (const auto& part : placing)
            if (part.range.overlaps(range)) return true;
        return false;
    }
    // What was being placed there is stale again.
    void give_up_placing(FileRange within) {
        std::erase_if(placing, [&](const Placing& part) {
            if (!part.range.overlaps(within)) return false;
            stale.add(part.range);
            return true;
        });
    }
};

}  // namespace refault::session
