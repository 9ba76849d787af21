// For tests of the metadata log: devices in shared memory whose small segments streams cross often,
// a plain giver of segments, and the bytes of a copy to damage.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "store/metadata_log.h"
#include "store/test_pool.h"

namespace refault::store::testing {

using base::Bytes;
using base::DeviceId;
using base::SegmentNo;

// Payloads that say their number, of many lengths; the same number gives the same payload.
inline Bytes numbered(std::uint64_t number) {
    const std::string text = "transaction " + std::to_string(number) + " ";
    Bytes bytes(text.begin(), text.end());
    const auto length = number * number * 37 % 300;
    for (std::uint64_t i = 0; i < length; ++i)
        bytes.push_back(static_cast<std::uint8_t>(number + i));
    return bytes;
}

inline std::vector<Bytes> numbered(std::uint64_t begin, std::uint64_t end) {
    std::vector<Bytes> payloads;
    for (auto i = begin; i < end; ++i) payloads.push_back(numbered(i));
    return payloads;
}

// Devices "a", "b", ... (numbers 1, 2, ...) with labels of one pool.
class LogDevices {
  public:
    explicit LogDevices(std::size_t count, Shape shape = {4096, 64}) {
        for (std::size_t i = 0; i < count; ++i) add(shape);
    }
    void add(Shape shape) {
        device::DeviceSpec spec;
        spec.name = static_cast<char>('a' + devices_.size());
        spec.kind = device::DeviceKind::Dir;
        spec.path = directory_.path() / spec.name;
        spec.size_bytes = shape.segment_bytes * shape.segments;
        spec.segment_bytes = shape.segment_bytes;
        std::filesystem::create_directory(spec.path);
        auto device = device::Device::create(spec, uuid);
        EXPECT_TRUE(device.ok()) << device.error().message();
        adopt(std::move(*device));
    }
    void adopt(const DevicePtr& device) {
        device::Label label;
        label.device = *base::Uuid::random();
        label.pool = uuid;
        label.name = device->name();
        label.id = DeviceId(static_cast<std::uint32_t>(devices_.size() + 1));
        label.segment_bytes = device->segment_bytes();
        label.segment_count = device->segment_count();
        EXPECT_TRUE(device->write_label(label).ok());
        devices_.push_back(device);
    }
    const DevicePtr& operator[](std::size_t index) const { return devices_[index]; }
    const std::vector<DevicePtr>& all() const { return devices_; }
    MetadataLog::Copy copy(std::size_t index) const {
        return {DeviceId(static_cast<std::uint32_t>(index + 1)), devices_[index]};
    }
    std::vector<MetadataLog::Copy> copies(const std::vector<std::size_t>& indices) const {
        std::vector<MetadataLog::Copy> copies;
        for (const auto index : indices) copies.push_back(copy(index));
        return copies;
    }
    const std::filesystem::path& directory() const { return directory_.path(); }

    const base::Uuid uuid = *base::Uuid::random();

  private:
    TempDirectory directory_;
    std::vector<DevicePtr> devices_;
};

// Gives the lowest free segments and knows which are out.
class PlainSpace final : public MetadataSpace {
  public:
    explicit PlainSpace(const LogDevices& devices) : devices_(devices) {}

    Result<SegmentNo> take(DeviceId id) override {
        auto& device = *devices_[id.raw() - 1];
        for (std::uint32_t i = 0; i < std::min(device.segment_count(), segments_max); ++i) {
            if (taken.contains({id, SegmentNo(i)})) continue;
            RETURN_IF_ERROR(device.create_fresh_segment(SegmentNo(i)));
            taken.insert({id, SegmentNo(i)});
            return SegmentNo(i);
        }
        return base::Error(base::Code::NoSpace, "no segment is left");
    }
    void give_back(DeviceId id, SegmentNo segment) override {
        EXPECT_EQ(taken.erase({id, segment}), 1u) << "a segment was given back that was not taken";
        base::discard(devices_[id.raw() - 1]->release_segment(segment),
                      "a left-over file does no harm");
    }
    // What the labels on media list.
    std::set<std::pair<DeviceId, SegmentNo>> listed() const {
        std::set<std::pair<DeviceId, SegmentNo>> all;
        for (const auto& device : devices_.all()) {
            const auto label = device->read_label();
            if (label)
                for (const auto segment : label->metadata_segments) all.emplace(label->id, segment);
        }
        return all;
    }

    std::set<std::pair<DeviceId, SegmentNo>> taken;
    std::uint32_t segments_max = UINT32_MAX;  // of each device

  private:
    const LogDevices& devices_;
};

// The bytes of a device's copy, to be changed behind the log's back.
class CopyBytes {
  public:
    explicit CopyBytes(const DevicePtr& device) : device_(device), label_(*device->read_label()) {
        for (const auto segment : label_.metadata_segments) {
            Bytes part(device->segment_bytes());
            EXPECT_TRUE(device->read(device->segment_range(segment).begin(), part).ok());
            bytes.insert(bytes.end(), part.begin(), part.end());
        }
    }
    void store() {
        const auto size = static_cast<std::ptrdiff_t>(device_->segment_bytes());
        auto from = bytes.begin();
        for (const auto segment : label_.metadata_segments) {
            EXPECT_TRUE(
                device_->write(device_->segment_range(segment).begin(), Bytes(from, from + size))
                    .ok());
            from += size;
        }
    }

    Bytes bytes;

  private:
    DevicePtr device_;
    device::Label label_;
};

// The devices of a copy of the directory.
inline std::vector<DevicePtr> open_all(const std::filesystem::path& base) {
    std::vector<DevicePtr> devices;
    for (const auto& entry : std::filesystem::directory_iterator(base)) {
        device::DeviceSpec spec;
        spec.name = entry.path().filename();
        spec.kind = device::DeviceKind::Dir;
        spec.path = entry.path();
        auto device = device::Device::open(spec);
        if (device) devices.push_back(std::move(*device));
    }
    return devices;
}

inline Result<MetadataLog::History> read_at(const std::filesystem::path& base) {
    return MetadataLog::read_longest(open_all(base));
}

}  // namespace refault::store::testing
