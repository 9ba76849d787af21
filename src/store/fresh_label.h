// The label of a device that joins a pool. Stateless, any thread.
#pragma once

#include "base/ids.h"
#include "device/device.h"

namespace refault::store {

// The pool gave the device this number; the generation goes on from an earlier label of the device.
base::Result<device::Label> fresh_label(const device::Device& device, const base::Uuid& pool,
                                        base::DeviceId id);

}  // namespace refault::store
