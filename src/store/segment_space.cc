// Free runs of a segment.
#include "store/segment_space.h"

#include "base/check.h"

namespace refault::store {

SegmentSpace::SegmentSpace(std::uint64_t segment_bytes)
    : segment_bytes_(segment_bytes), free_bytes_(segment_bytes) {
    runs_.emplace(0, segment_bytes);
}

bool SegmentSpace::is_free(std::uint64_t offset, std::uint64_t length) const {
    auto at = runs_.upper_bound(offset);
    if (at == runs_.begin()) return false;
    --at;
    return offset + length <= at->first + at->second;
}

void SegmentSpace::take(std::uint64_t offset, std::uint64_t length) {
    CHECK(length > 0 && is_free(offset, length));
    const auto at = std::prev(runs_.upper_bound(offset));
    const auto [begin, run_length] = *at;
    runs_.erase(at);
    if (begin < offset) runs_.emplace(begin, offset - begin);
    if (offset + length < begin + run_length)
        runs_.emplace(offset + length, begin + run_length - (offset + length));
    free_bytes_ -= length;
}

void SegmentSpace::release(std::uint64_t offset, std::uint64_t length) {
    CHECK(length > 0 && offset + length <= segment_bytes_);
    free_bytes_ += length;
    missing_length_ = UINT64_MAX;
    auto next = runs_.lower_bound(offset);
    CHECK(next == runs_.end() || offset + length <= next->first);
    if (next != runs_.end() && next->first == offset + length) {
        length += next->second;
        next = runs_.erase(next);
    }
    if (next != runs_.begin()) {
        const auto previous = std::prev(next);
        CHECK(previous->first + previous->second <= offset);
        if (previous->first + previous->second == offset) {
            previous->second += length;
            return;
        }
    }
    runs_.emplace_hint(next, offset, length);
}

std::optional<std::uint64_t> SegmentSpace::find(std::uint64_t length, std::uint64_t modulus,
                                                std::uint64_t remainder) const {
    if (length > free_bytes_ || length >= missing_length_) return std::nullopt;
    for (const auto& [begin, run_length] : runs_) {
        const auto skipped = (remainder + modulus - begin % modulus) % modulus;
        if (skipped <= run_length && length <= run_length - skipped) return begin + skipped;
    }
    if (modulus == 1) missing_length_ = length;
    return std::nullopt;
}

std::optional<SegmentSpace::Run> SegmentSpace::first() const {
    if (runs_.empty()) return std::nullopt;
    return Run{runs_.begin()->first, runs_.begin()->second};
}

}  // namespace refault::store
