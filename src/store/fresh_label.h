// The label of a device that joins a pool, and why it may not. Stateless, any thread.
#pragma once

#include "base/ids.h"
#include "device/device.h"

namespace refault::store {

// The pool gave the device this number; the generation goes on from an earlier label of the device.
base::Result<device::Label> fresh_label(const device::Device& device, const base::Uuid& pool,
                                        base::DeviceId id);

// What is said of a device for which State::has_room_for is false.
base::Error too_many_segments(const device::Device& device);

}  // namespace refault::store
