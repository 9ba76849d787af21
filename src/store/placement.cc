// The chunk rule.
#include "store/placement.h"

#include <algorithm>

namespace refault::store {

using base::kHugePageBytes;
using base::kPageBytes;

namespace {

// What a chunk can have in segments of this size: all of it, or as much as one segment holds.
std::uint64_t fitting_length(std::uint64_t length, std::uint64_t segment_bytes) {
    return std::min(length, segment_bytes);
}

bool continues(const Piece& left, const Piece& right, std::uint64_t segment_bytes) {
    return left.device == right.device && left.file_offset + left.length == right.file_offset &&
           left.device_offset + left.length == right.device_offset &&
           right.device_offset % segment_bytes != 0;
}

}  // namespace

SegmentOwner Placement::owner_for_growth(const Allocator& allocator, InodeNo inode, uid_t uid,
                                         std::uint64_t length) {
    const SegmentOwner exclusive{SegmentOwner::Kind::Exclusive, 0, inode};
    if (allocator.owns_any(exclusive)) return exclusive;
    const auto device = allocator.roomiest();
    if (device && length >= allocator.segment_bytes(*device) / 2) return exclusive;
    return {SegmentOwner::Kind::SharedByUser, uid, {}};
}

std::vector<Piece> Placement::place(const SegmentOwner& owner, FileRange range,
                                    std::optional<Piece> behind) {
    std::vector<Piece> pieces;
    for (auto at = range.begin(); at < range.end();) {
        const auto chunk_end =
            std::min(range.end(), base::align_down(at, kHugePageBytes) + kHugePageBytes);
        const auto piece = take(owner, {at, chunk_end - at}, behind);
        if (!piece) break;
        at += piece->length;
        if (!pieces.empty() &&
            continues(pieces.back(), *piece, allocator_.segment_bytes(piece->device)))
            pieces.back().length += piece->length;
        else
            pieces.push_back(*piece);
        behind = pieces.back();
    }
    return pieces;
}

std::optional<Piece> Placement::place_whole(const SegmentOwner& owner, FileRange range) {
    auto pieces = place(owner, range);
    if (pieces.size() == 1 && pieces[0].length == range.length()) return pieces[0];
    for (const auto& piece : pieces) {
        allocator_.release(piece.device, piece.device_range());
        const SegmentKey key{piece.device,
                             SegmentNo(static_cast<std::uint32_t>(
                                 piece.device_offset / allocator_.segment_bytes(piece.device)))};
        // Fresh for this attempt: no file, nothing in it.
        if (allocator_.taken_bytes(key) == 0 && !allocator_.has_file(key)) allocator_.disown(key);
    }
    return std::nullopt;
}

std::optional<Piece> Placement::take(const SegmentOwner& owner, const Chunk& chunk,
                                     const std::optional<Piece>& behind) {
    std::optional<Piece> piece;
    if (behind) piece = take_behind(owner, chunk, *behind);
    if (!piece) piece = take_in_owned(owner, chunk);
    if (!piece) piece = take_fresh(owner, chunk);
    if (!piece) piece = take_fragment(owner, chunk);
    return piece;
}

Piece Placement::take_at(SegmentKey key, std::uint64_t offset, std::uint64_t file_offset,
                         std::uint64_t length) {
    const Piece piece{file_offset, key.device,
                      key.segment.raw() * allocator_.segment_bytes(key.device) + offset, length};
    allocator_.take(key.device, piece.device_range());
    return piece;
}

std::optional<Piece> Placement::take_behind(const SegmentOwner& owner, const Chunk& chunk,
                                            const Piece& behind) {
    if (excluded_.contains(behind.device) || allocator_.is_leaving(behind.device))
        return std::nullopt;
    const auto segment_bytes = allocator_.segment_bytes(behind.device);
    const auto begin = behind.device_offset + behind.length;
    const auto offset = begin % segment_bytes;
    if (offset == 0 || behind.file_offset + behind.length != chunk.file_offset) return std::nullopt;
    const SegmentKey key{behind.device,
                         SegmentNo(static_cast<std::uint32_t>(begin / segment_bytes))};
    if (allocator_.owner(key) != owner || allocator_.is_closing(key)) return std::nullopt;
    const bool may_be_huge = chunk.is_huge() && segment_bytes >= kHugePageBytes;
    if (may_be_huge && offset % kHugePageBytes != chunk.file_offset % kHugePageBytes)
        return std::nullopt;
    // Small segments cut a chunk where they end.
    const auto length = segment_bytes < kHugePageBytes
                            ? std::min(chunk.length, segment_bytes - offset)
                            : chunk.length;
    if (!allocator_.is_free(key.device, begin, length)) return std::nullopt;
    return take_at(key, offset, chunk.file_offset, length);
}

std::optional<Piece> Placement::take_in_owned(const SegmentOwner& owner, const Chunk& chunk) {
    for (const auto& key : allocator_.with_room(owner, excluded_)) {
        const auto segment_bytes = allocator_.segment_bytes(key.device);
        const auto& space = *allocator_.space(key);
        const auto length = fitting_length(chunk.length, segment_bytes);
        std::optional<std::uint64_t> offset;
        // A file's own segment mirrors the file modulo 2 MiB where it can: what grows there later
        // joins.
        const bool mirrors = owner.kind == SegmentOwner::Kind::Exclusive || chunk.is_huge();
        if (mirrors && segment_bytes >= kHugePageBytes)
            offset = space.find(length, kHugePageBytes, chunk.file_offset % kHugePageBytes);
        if (!offset && length < kHugePageBytes) offset = space.find(length, 1, 0);
        if (offset) return take_at(key, *offset, chunk.file_offset, length);
    }
    return std::nullopt;
}

std::optional<Piece> Placement::take_fresh(const SegmentOwner& owner, const Chunk& chunk) {
    const auto device = allocator_.roomiest(excluded_);
    if (!device) return std::nullopt;
    const auto key = allocator_.own_fresh(*device, owner);
    CHECK(key);
    const auto segment_bytes = allocator_.segment_bytes(*device);
    const bool mirrors =
        owner.kind == SegmentOwner::Kind::Exclusive && segment_bytes >= kHugePageBytes;
    return take_at(*key, mirrors ? chunk.file_offset % kHugePageBytes : 0, chunk.file_offset,
                   fitting_length(chunk.length, segment_bytes));
}

std::optional<Piece> Placement::take_fragment(const SegmentOwner& owner, const Chunk& chunk) {
    for (const auto& key : allocator_.with_room(owner, excluded_)) {
        const auto run = allocator_.space(key)->first();
        if (!run) continue;
        // A whole huge page at a wrong offset would break the rule; one page less is a small chunk.
        const auto length = std::min({run->length, chunk.length, kHugePageBytes - kPageBytes});
        return take_at(key, run->offset, chunk.file_offset, length);
    }
    return std::nullopt;
}

}  // namespace refault::store
