// Bounds-checked little-endian fields.
#include "base/codec.h"

namespace refault::base {

Encoder& Encoder::put(std::uint64_t value, int width) {
    for (int i = 0; i < width; ++i) data_.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
    return *this;
}

Encoder& Encoder::bytes(std::span<const std::uint8_t> value) {
    return u32(static_cast<std::uint32_t>(value.size())).raw(value);
}

Encoder& Encoder::text(std::string_view value) {
    return bytes({reinterpret_cast<const std::uint8_t*>(value.data()), value.size()});
}

Encoder& Encoder::raw(std::span<const std::uint8_t> value) {
    data_.insert(data_.end(), value.begin(), value.end());
    return *this;
}

void Decoder::fail() noexcept {
    ok_ = false;
    rest_ = {};
}

std::span<const std::uint8_t> Decoder::raw(std::size_t length) {
    if (length > rest_.size()) {
        fail();
        return {};
    }
    const auto taken = rest_.first(length);
    rest_ = rest_.subspan(length);
    return taken;
}

std::uint64_t Decoder::get(std::size_t width) {
    std::uint64_t value = 0;
    const auto taken = raw(width);
    for (std::size_t i = 0; i < taken.size(); ++i) value |= std::uint64_t{taken[i]} << (8 * i);
    return value;
}

Bytes Decoder::bytes(std::uint32_t length_max) {
    const auto length = u32();
    if (length > length_max) fail();
    const auto taken = raw(ok_ ? length : 0);
    return {taken.begin(), taken.end()};
}

std::string Decoder::text(std::uint32_t length_max) {
    const auto taken = bytes(length_max);
    return {taken.begin(), taken.end()};
}

Status Decoder::finish(std::string_view what) const {
    if (!ok_)
        return Error(Code::Corrupt,
                     std::string(what) + " is cut short or has a field out of bounds");
    if (!rest_.empty()) return Error(Code::Corrupt, std::string(what) + " has bytes after its end");
    return {};
}

}  // namespace refault::base
