// The names of a device's files, and the room that those beside the segments need.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/ids.h"

namespace refault::device {

inline constexpr const char* kLabelFile = "label";
inline constexpr const char* kLockFile = "lock";
std::string segment_name(base::SegmentNo segment);
// Of a segment that was removed while somebody had it open or mapped.
bool is_removed_name(std::string_view name);
// The label and its replacement, each in a huge page of its own on a tmpfs that always uses them.
inline constexpr std::uint64_t kLabelRoomBytes = 4ull << 20;

}  // namespace refault::device
