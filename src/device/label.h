// A device's label: who it is, whose it is, how it is cut, and which segments hold metadata.
// On media: the file `label` in the device's directory; format in docs/format.md. Value type.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/codec.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/uuid.h"

namespace refault::device {

inline constexpr std::uint32_t kLabelVersion = 1;

enum class LabelState : std::uint8_t {
    Member = 1,  // part of the pool
    Removed = 2  // tombstone: emptied by a planned removal, safe to use anew
};

struct Label {
    base::Uuid device;
    base::Uuid pool;
    std::string name;
    base::DeviceId id;
    std::uint64_t segment_bytes = 0;
    std::uint32_t segment_count = 0;
    std::uint64_t generation = 0;  // count of attachments
    LabelState state = LabelState::Member;
    // The metadata log's copy on this device, if it has one: segments in order of the stream, for
    // one epoch.
    std::uint64_t metadata_epoch = 0;
    std::vector<base::SegmentNo> metadata_segments;
};

base::Bytes encode_label(const Label& label);
// Corrupt (naming the rule that failed) or NotSupported when the version is newer.
base::Result<Label> decode_label(std::span<const std::uint8_t> bytes);

}  // namespace refault::device
