// Labels as they are read from a device that anybody may have written. The input is taken as it is,
// and once more with the length and the checksum that it should have, so that what lies behind them
// is reached.
#include "base/crc32c.h"
#include "device/label.h"
#include "fuzz/target.h"

namespace refault::fuzz {
namespace {

constexpr std::size_t kHeadBytes = 16, kLengthAt = 12, kCrcBytes = 4;

std::vector<Bytes> seeds() {
    device::Label label;
    label.device.bytes.fill(1);
    label.pool.bytes.fill(2);
    label.name = "dimm0";
    label.id = base::DeviceId(3);
    label.segment_bytes = 2u << 20;
    label.segment_count = 512;
    label.generation = 4;
    auto with_log = label;
    with_log.metadata_epoch = 5;
    for (const std::uint32_t segment : {7u, 3u, 12u})
        with_log.metadata_segments.emplace_back(segment);
    auto removed = label;
    removed.state = device::LabelState::Removed;
    return {device::encode_label(label), device::encode_label(with_log),
            device::encode_label(removed)};
}

void put_u32(Bytes& bytes, std::size_t at, std::uint64_t value) {
    for (std::size_t i = 0; i < 4; ++i) bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

void check_one(Input input) {
    if (const auto label = device::decode_label(input))
        CHECK(same_bytes(device::encode_label(*label), input));
}

void run(Input input) {
    check_one(input);
    if (input.size() < kHeadBytes + kCrcBytes) return;
    Bytes mended(input.begin(), input.end());
    put_u32(mended, kLengthAt, mended.size() - kHeadBytes - kCrcBytes);
    const auto body = std::span(mended).first(mended.size() - kCrcBytes);
    put_u32(mended, body.size(), base::crc32c(body));
    check_one(mended);
}

const Registration registered({"label", seeds, run, 300'000});

}  // namespace
}  // namespace refault::fuzz
