// Labels of devices that join.
#include "store/fresh_label.h"

#include "store/state.h"

namespace refault::store {

using base::DeviceId;
using base::Result;

base::Error too_many_segments(const device::Device& device) {
    return {base::Code::Invalid, "with device " + device.name() +
                                     " the pool has too many segments; give it larger ones"};
}

Result<device::Label> fresh_label(const device::Device& device, const base::Uuid& pool,
                                  DeviceId id) {
    if (!is_possible_shape(device.segment_bytes(), device.segment_count()))
        return base::Error(base::Code::Invalid, "device " + device.name() +
                                                    " has too many segments; give it larger ones");
    auto uuid = base::Uuid::random();
    if (!uuid) return uuid.error();
    // A tombstone counts on: nothing that was mapped from an earlier life has this number.
    const auto earlier = device.read_label();
    device::Label label;
    label.device = *uuid;
    label.pool = pool;
    label.name = device.name();
    label.id = id;
    label.segment_bytes = device.segment_bytes();
    label.segment_count = device.segment_count();
    label.generation = earlier ? earlier->generation + 1 : 1;
    return label;
}

}  // namespace refault::store
