// Strong types for the numbers that must not be mixed up: devices, inodes, segments, generations.
// Explicit to make, explicit to read; ordered and hashable, nothing else.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace refault::base {

template <typename Tag, typename Raw>
class StrongId {
  public:
    using raw_type = Raw;
    constexpr StrongId() = default;
    constexpr explicit StrongId(Raw raw) : raw_(raw) {}
    constexpr Raw raw() const noexcept { return raw_; }
    constexpr auto operator<=>(const StrongId&) const = default;

  private:
    Raw raw_ = 0;
};

// A device's number within its pool; given once and never to another device.
using DeviceId = StrongId<struct DeviceIdTag, std::uint32_t>;
// A segment's number within its device.
using SegmentNo = StrongId<struct SegmentNoTag, std::uint32_t>;
// A file or directory of the pool; never used again. 1 is the root directory.
using InodeNo = StrongId<struct InodeNoTag, std::uint64_t>;
// A client's connection, and one mapping in it.
using SessionId = StrongId<struct SessionIdTag, std::uint64_t>;
using MappingId = StrongId<struct MappingIdTag, std::uint64_t>;

inline constexpr InodeNo kRootInode{1};

}  // namespace refault::base

template <typename Tag, typename Raw>
struct std::hash<refault::base::StrongId<Tag, Raw>> {
    std::size_t operator()(const refault::base::StrongId<Tag, Raw>& id) const noexcept {
        return std::hash<Raw>{}(id.raw());
    }
};
