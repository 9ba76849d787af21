// The bytes of one copy of the metadata log as they lie on its device, as far as they can be read.
// Value type.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/codec.h"
#include "base/range.h"
#include "device/device.h"

namespace refault::store {

using StreamRange = base::Range<struct StreamRangeTag>;

struct LogStream {
    std::string device;  // its name
    base::Bytes
        bytes;  // up to the last byte that is not a hole; holes and what cannot be read are zero
    // Bytes of the stream that could not be read, ascending: nobody knows what is in them.
    std::vector<StreamRange> unreadable;
    std::string note;  // why not; empty when all could be read

    // True when nothing at or behind `offset` was unreadable: what is not there then was never
    // there.
    bool is_known_from(std::uint64_t offset) const;
};

// Reads the segments that the label lists. A part that cannot be read costs that part alone.
LogStream read_log_stream(const device::Device& device, const device::Label& label);

}  // namespace refault::store
