// Little-endian encoding of fixed-width fields and length-prefixed bytes, for media and wire alike.
//
// Encoder appends to a buffer. Decoder never reads beyond its input: the first short or oversized
// field makes it fail for good, every later field reads as zero, and finish() gives Code::Corrupt.
// So a decode function reads all its fields and checks once. Not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace refault::base {

using Bytes = std::vector<std::uint8_t>;

class Encoder {
  public:
    Encoder& u8(std::uint8_t value) { return put(value, 1); }
    Encoder& u16(std::uint16_t value) { return put(value, 2); }
    Encoder& u32(std::uint32_t value) { return put(value, 4); }
    Encoder& u64(std::uint64_t value) { return put(value, 8); }
    Encoder& bytes(std::span<const std::uint8_t> value);  // u32 length, then the bytes
    Encoder& text(std::string_view value);                // the same
    Encoder& raw(std::span<const std::uint8_t> value);    // the bytes alone

    const Bytes& data() const noexcept { return data_; }
    Bytes take() noexcept { return std::move(data_); }

  private:
    Encoder& put(std::uint64_t value, int width);
    Bytes data_;
};

class Decoder {
  public:
    explicit Decoder(std::span<const std::uint8_t> data) : rest_(data) {}

    std::uint8_t u8() { return static_cast<std::uint8_t>(get(1)); }
    std::uint16_t u16() { return static_cast<std::uint16_t>(get(2)); }
    std::uint32_t u32() { return static_cast<std::uint32_t>(get(4)); }
    std::uint64_t u64() { return get(8); }
    // Fails when the length field is above length_max.
    std::string text(std::uint32_t length_max);
    Bytes bytes(std::uint32_t length_max);
    std::span<const std::uint8_t> raw(std::size_t length);

    bool ok() const noexcept { return ok_; }
    std::size_t remaining() const noexcept { return rest_.size(); }
    void fail() noexcept;
    // Ok when every field was there and nothing is left over; `what` names the thing decoded in the
    // error.
    Status finish(std::string_view what) const;

  private:
    std::uint64_t get(std::size_t width);
    std::span<const std::uint8_t> rest_;
    bool ok_ = true;
};

}  // namespace refault::base
