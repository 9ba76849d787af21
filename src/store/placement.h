// Where new bytes of a file go: the chunk rule over the allocator's books.
//
//   file     0        2M        4M   5M
//   chunks   |---------|---------|----|    cut at 2 MiB of the file: whole chunks can be huge pages
//
// On the device a chunk of 2 MiB lies at the same offset modulo 2 MiB as in the file, smaller ones
// lie anywhere.
//
// A chunk goes, in this order: right behind the one before it; into room of a segment that the
// owner has; into a fresh segment of the device with most space; in pieces, into what the owner's
// segments have left. Not thread-safe: the store's lock.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "store/allocator.h"

namespace refault::store {

struct Piece {
    std::uint64_t file_offset = 0;
    DeviceId device;
    std::uint64_t device_offset = 0;
    std::uint64_t length = 0;

    DeviceRange device_range() const { return DeviceRange::of_length(device_offset, length); }
};

class Placement {
  public:
    // Nothing goes to `excluded` (nor to leaving devices).
    explicit Placement(Allocator& allocator, DeviceSet excluded = {})
        : allocator_(allocator), excluded_(std::move(excluded)) {}

    // Takes space for the page-aligned range, at places that the owner may have. `behind` is the
    // end of what comes before the range in the file, for a hint. Neighbours that continue each
    // other are one piece. When space runs out, the pieces cover the beginning of the range only;
    // they stay taken, the caller gives them back.
    std::vector<Piece> place(const SegmentOwner& owner, FileRange range,
                             std::optional<Piece> behind = std::nullopt);
    // One piece for all of the range (at most 2 MiB, or as long as the source is contiguous), or
    // nothing.
    std::optional<Piece> place_whole(const SegmentOwner& owner, FileRange range);

    // Whether a file's growth by `length` bytes goes to segments of its own.
    static SegmentOwner owner_for_growth(const Allocator& allocator, InodeNo inode, uid_t uid,
                                         std::uint64_t length);

  private:
    struct Chunk {
        std::uint64_t file_offset = 0;
        std::uint64_t length = 0;
        bool is_huge() const { return length >= base::kHugePageBytes; }
    };
    std::optional<Piece> take(const SegmentOwner& owner, const Chunk& chunk,
                              const std::optional<Piece>& behind);
    std::optional<Piece> take_behind(const SegmentOwner& owner, const Chunk& chunk,
                                     const Piece& behind);
    std::optional<Piece> take_in_owned(const SegmentOwner& owner, const Chunk& chunk);
    std::optional<Piece> take_fresh(const SegmentOwner& owner, const Chunk& chunk);
    std::optional<Piece> take_fragment(const SegmentOwner& owner, const Chunk& chunk);
    Piece take_at(SegmentKey key, std::uint64_t offset, std::uint64_t file_offset,
                  std::uint64_t length);

    Allocator& allocator_;
    const DeviceSet excluded_;
};

}  // namespace refault::store
